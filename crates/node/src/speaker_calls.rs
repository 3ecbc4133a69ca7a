//! The questions to the speaker that take more than one of its calls.

use margay_bgp_core::{
    AdvertisementReason, AdvertisementView, FsmState, PeerName, RefreshDirection, RouteFilter, WhyView,
};
use margay_bgp_speaker::{SpeakerGone, SpeakerHandle};
use margay_net::Cidr;

/// Why a prefix is as it is.
pub(crate) async fn why(speaker: &SpeakerHandle, prefix: Cidr) -> Result<WhyView, SpeakerGone> {
    let routes = speaker.routes(RouteFilter { family: Some(prefix.family()), ..RouteFilter::default() }).await?;
    let route = routes.iter().find(|route| route.prefix == prefix).cloned();
    let covering = routes.iter().map(|route| route.prefix).filter(|candidate| candidate.covers(prefix));
    let covered_by = if route.is_some() { None } else { covering.max_by_key(|cidr| cidr.len()) };
    let mut advertisements = Vec::new();
    for peer in speaker.peers().await?.into_iter().filter(|peer| peer.state == FsmState::Established) {
        let told = speaker.advertised(peer.name.clone()).await?;
        let told =
            told.into_iter().find(|route| route.prefix == prefix).and_then(|route| route.paths.into_iter().next());
        let best = route.as_ref().and_then(|route| route.paths.iter().find(|path| path.best));
        let (reason, words) = match (&told, best) {
            (Some(_), _) => (AdvertisementReason::Advertised { rule: None }, "announced"),
            (None, None) => (AdvertisementReason::NoUsablePath, "there is no usable path"),
            (None, Some(best)) if best.source == margay_bgp_core::PathSource::Peer(peer.name.clone()) => {
                (AdvertisementReason::LearnedFromPeer, "the best path came from this peer")
            }
            (None, Some(_)) if !peer.families.contains(&prefix.family()) => {
                (AdvertisementReason::FamilyNotNegotiated, "the session does not carry the family")
            }
            (None, Some(_)) => (AdvertisementReason::Policy { rule: None }, "kept back by policy or reflection"),
        };
        advertisements.push(AdvertisementView {
            peer: peer.name,
            advertised: told.map(|path| path.attributes),
            reason,
            words: words.to_owned(),
        });
    }
    Ok(WhyView { route, covered_by, advertisements, waits: Vec::new() })
}

/// Asks for routes again, or has ours sent again. False: this speaker can't.
pub(crate) async fn refresh(
    _speaker: &SpeakerHandle,
    _peer: &PeerName,
    _direction: RefreshDirection,
) -> Result<bool, SpeakerGone> {
    Ok(false)
}
