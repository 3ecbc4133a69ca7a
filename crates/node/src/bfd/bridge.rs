//! Between the speaker, which wants BFD sessions and must know when they fail, and `margayd bfd`, which has them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use margay_bgp_core::{BfdSession, BfdState, PeerName};
use margay_bgp_speaker::SpeakerHandle;
use margay_local_api::{BfdSessionConfig, BfdSessionState, BfdSessionStatus};
use tokio::sync::{mpsc, watch};

use super::client::{BfdClient, BfdStatus};

/// How long after the start the speaker may take to want sessions, before those of an earlier run end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What can't be had, in words; empty where all is well.
pub(crate) type Troubles = Vec<String>;

/// Runs until the speaker is gone.
pub(crate) async fn run(speaker: SpeakerHandle, socket: PathBuf, owner: String, troubles: watch::Sender<Troubles>) {
    let mut sessions = speaker.bfd_sessions();
    let (wanted_sender, wanted) = watch::channel(None);
    let (status_sender, mut status) = mpsc::channel(64);
    let client = tokio::spawn(BfdClient { socket, owner, wanted, status: status_sender }.run());
    // What an earlier run of the daemon asked for; to be known before anything is asked.
    let mut running: Option<BTreeMap<String, BfdSessionStatus>> = None;
    let patience = tokio::time::sleep(PATIENCE);
    tokio::pin!(patience);
    let mut asked = false;
    loop {
        tokio::select! {
            changed = sessions.changed() => {
                if changed.is_err() {
                    break;
                }
                asked = true;
            }
            () = &mut patience, if !asked => asked = true,
            told = status.recv() => match told {
                Some(told) => {
                    if take(&speaker, &mut running, told, &troubles).await.is_err() {
                        break;
                    }
                }
                None => break,
            },
        }
        if sessions.borrow().is_empty() {
            // Whoever wants nothing doesn't care whether it can be had.
            troubles.send_if_modified(|known| !std::mem::take(known).is_empty());
        }
        if asked && let Some(running) = &running {
            let set = set(&sessions.borrow_and_update(), running);
            let changed = |known: &mut Option<Arc<Vec<BfdSessionConfig>>>| {
                let new = known.as_deref() != Some(&set);
                if new {
                    *known = Some(Arc::new(set.clone()));
                }
                new
            };
            wanted_sender.send_if_modified(changed);
        }
    }
    client.abort();
}

async fn take(
    speaker: &SpeakerHandle,
    running: &mut Option<BTreeMap<String, BfdSessionStatus>>,
    told: BfdStatus,
    troubles: &watch::Sender<Troubles>,
) -> Result<(), margay_bgp_speaker::SpeakerGone> {
    let changed = match told {
        BfdStatus::Sessions { sessions, refused } => {
            let refused = refused.iter().map(|refusal| format!("BFD of {}: {}", refusal.id, refusal.reason));
            troubles.send_replace(refused.collect());
            *running = Some(sessions.iter().map(|session| (session.id.clone(), session.clone())).collect());
            sessions
        }
        BfdStatus::Session(session) => {
            running.get_or_insert_default().insert(session.id.clone(), (*session).clone());
            vec![*session]
        }
        BfdStatus::Unreachable(reason) => {
            troubles.send_replace(vec![reason]);
            return Ok(());
        }
    };
    for session in changed.into_iter().filter(|session| !session.leaving) {
        let state = match session.state {
            BfdSessionState::AdminDown => BfdState::AdminDown,
            BfdSessionState::Init => BfdState::Init,
            BfdSessionState::Up => BfdState::Up,
            // The peer that says so has not failed (RFC 5882 section 3.2).
            BfdSessionState::Down if session.remote_state == BfdSessionState::AdminDown => BfdState::AdminDown,
            BfdSessionState::Down => BfdState::Down { control_plane_independent: session.control_plane_independent },
        };
        speaker.bfd(PeerName::new(session.id.as_str()), state, session.reason).await?;
    }
    Ok(())
}

/// The sessions to ask for. One whose BGP session has not been up in this run is not known whole: if an earlier run of
/// the daemon had it, it goes on as it is, and otherwise it begins with the BGP session.
fn set(
    sessions: &BTreeMap<PeerName, BfdSession>,
    running: &BTreeMap<String, BfdSessionStatus>,
) -> Vec<BfdSessionConfig> {
    let wanted = |(name, session): (&PeerName, &BfdSession)| {
        // Over which link the peer is becomes known with its BGP session.
        let known = running.get(name.as_str()).filter(|known| {
            known.remote == session.remote
                && session.interface.is_none()
                && (session.local.is_none() || known.interface.is_some())
        });
        let (local, interface, multihop) = match known {
            Some(known) => (known.local, known.interface.clone(), known.multihop),
            None => (session.local, session.interface.clone(), session.multihop),
        };
        if local.is_none() || (interface.is_none() && !multihop) {
            return None;
        }
        let milliseconds = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        Some(BfdSessionConfig {
            id: name.to_string(),
            remote: session.remote,
            local,
            interface: interface.filter(|_| !multihop),
            multihop,
            min_tx_ms: milliseconds(session.config.min_tx),
            min_rx_ms: milliseconds(session.config.min_rx),
            multiplier: session.config.multiplier,
            min_ttl: None,
            passive: false,
        })
    };
    sessions.iter().filter_map(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use margay_bgp_core::BfdConfig;

    fn session(local: Option<&str>, interface: Option<&str>) -> BTreeMap<PeerName, BfdSession> {
        let session = BfdSession {
            remote: "192.0.2.1".parse().expect("an address"),
            local: local.map(|local| local.parse().expect("an address")),
            interface: interface.map(str::to_owned),
            multihop: false,
            config: BfdConfig::default(),
        };
        BTreeMap::from([(PeerName::from("tor"), session)])
    }

    fn running() -> BTreeMap<String, BfdSessionStatus> {
        let json = serde_json::json!({
            "owner": "node", "id": "tor", "remote": "192.0.2.1", "local": "192.0.2.2", "interface": "eth0",
            "multihop": false, "state": "up", "since_ms": 0, "reason": "", "diagnostic": {"code": 0, "words": ""},
            "remote_state": "up", "remote_diagnostic": {"code": 0, "words": ""}, "control_plane_independent": true,
            "discriminator": 1, "remote_discriminator": 2, "transmit_interval_ms": 300, "receive_interval_ms": 300,
            "detection_time_ms": 900, "polling": false, "received": 1, "sent": 1, "flaps": 0, "send_error": "",
            "leaving": false,
        });
        BTreeMap::from([("tor".to_owned(), serde_json::from_value(json).expect("a status"))])
    }

    #[test]
    fn a_session_begins_when_both_its_ends_are_known() {
        assert_eq!(set(&session(None, Some("eth0")), &BTreeMap::new()), []);
        assert_eq!(set(&session(Some("192.0.2.2"), None), &BTreeMap::new()), []);
        let whole = set(&session(Some("192.0.2.2"), Some("eth0")), &BTreeMap::new());
        assert_eq!((whole.len(), whole[0].min_tx_ms, whole[0].interface.as_deref()), (1, 300, Some("eth0")));
    }

    #[test]
    fn a_session_of_an_earlier_run_goes_on_as_it_is_until_more_is_known() {
        let whole = set(&session(Some("192.0.2.2"), Some("eth0")), &BTreeMap::new());
        assert_eq!(set(&session(None, None), &running()), whole);
        // Before its link is known, the peer may be any number of hops away.
        let mut early = session(Some("192.0.2.2"), None);
        early.values_mut().for_each(|session| session.multihop = true);
        assert_eq!(set(&early, &running()), whole);
    }
}
