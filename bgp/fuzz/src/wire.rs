//! The decoders, and what must hold for all that they take.

use margay_bgp_core::wire::{
    self, DecodeContext, EncodeError, FamilySet, HEADER_LEN, MAX_MESSAGE, Message, Notification, PeerKind, Treatment,
    Update,
};
use margay_net::Family;

const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const ROUTE_REFRESH: u8 = 5;

/// A message of type `kind` with a right header; the body is cut where it is too long for one, and filled up where it is
/// too short, so that the decoder itself is reached.
fn message(kind: u8, body: &[u8], least: usize) -> Vec<u8> {
    let body = &body[..body.len().min(MAX_MESSAGE - HEADER_LEN)];
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&[0, 0, kind]);
    message.extend_from_slice(body);
    message.resize(message.len().max(least), 0);
    let len = u16::try_from(message.len()).expect("at most 4096 octets").to_be_bytes();
    message[16..18].copy_from_slice(&len);
    message
}

/// A stream of octets, the first of which says in what pieces the others come: the messages are the same in whatever
/// pieces.
pub fn frame(data: &[u8]) {
    let Some((&piece, stream)) = data.split_first() else { return };
    let whole = framed(stream, stream.len().max(1));
    assert_eq!(whole, framed(stream, usize::from(piece).max(1)), "the pieces change the messages");
    for message in &whole.0 {
        assert!((HEADER_LEN..=MAX_MESSAGE).contains(&message.len()));
        // A decoder takes all that was framed, or has a NOTIFICATION for it.
        let _ = wire::decode(message, &DecodeContext::default());
    }
}

type Framed = (Vec<Vec<u8>>, Option<Notification>);

fn framed(stream: &[u8], piece: usize) -> Framed {
    let (mut buffer, mut messages) = (Vec::new(), Vec::new());
    for piece in stream.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match wire::frame(&buffer, MAX_MESSAGE) {
                Ok(Some(len)) if len <= buffer.len() => messages.push(buffer.drain(..len).collect()),
                Ok(_) => break,
                Err(notification) => {
                    assert_eq!(notification.code, Notification::MESSAGE_HEADER_ERROR);
                    return (messages, Some(notification));
                }
            }
        }
    }
    (messages, None)
}

/// The body of an OPEN.
pub fn open(data: &[u8]) {
    match wire::decode(&message(OPEN, data, 29), &DecodeContext::default()) {
        Ok(Message::Open(open)) => {
            assert!(open.asn.0 != 0 && !open.router_id.is_unspecified() && !matches!(open.hold_time, 1 | 2));
            for capability in &open.capabilities {
                assert!(!capability.to_string().is_empty());
            }
            // What was understood is told as it was understood, where an OPEN of ours can hold it.
            let again = wire::encode_open(&open);
            assert_eq!(wire::frame(&again, MAX_MESSAGE), Ok(Some(again.len())));
            let Ok(Message::Open(again)) = wire::decode(&again, &DecodeContext::default()) else {
                panic!("our OPEN is none: {open:?}");
            };
            assert!(again.capabilities.len() <= open.capabilities.len());
        }
        Ok(other) => panic!("not an OPEN: {other:?}"),
        Err(notification) => assert_eq!(notification.code, Notification::OPEN_MESSAGE_ERROR, "{notification}"),
    }
}

/// Capabilities, in an OPEN that is otherwise good, as one parameter of extended length.
pub fn capabilities(data: &[u8]) {
    let data = &data[..data.len().min(MAX_MESSAGE - 36)];
    let len = u16::try_from(data.len()).expect("at most 4096 octets");
    let mut body = vec![4, 0xfd, 0xe9, 0, 90, 10, 0, 0, 1, 255, 255];
    body.extend_from_slice(&(len + 3).to_be_bytes());
    body.push(2);
    body.extend_from_slice(&len.to_be_bytes());
    body.extend_from_slice(data);
    open(&body);
}

/// An octet that says how the session was negotiated, and the body of an UPDATE.
pub fn update(data: &[u8]) {
    let Some((&session, body)) = data.split_first() else { return };
    let context = context(session);
    let message = message(UPDATE, body, 23);
    match wire::decode(&message, &context) {
        Ok(Message::Update(update)) => check_update(&update, message.len(), &context),
        Ok(other) => panic!("not an UPDATE: {other:?}"),
        Err(notification) => assert_eq!(notification.code, Notification::UPDATE_MESSAGE_ERROR, "{notification}"),
    }
}

/// The session that the bits of an octet stand for.
fn context(session: u8) -> DecodeContext {
    let bit = |bit: u8| session >> bit & 1 == 1;
    DecodeContext {
        four_octet_asn: bit(0),
        peer_kind: if bit(1) { PeerKind::Internal } else { PeerKind::External },
        families: families_of([bit(2), bit(3)]),
        extended_next_hop: bit(4),
        add_path: families_of([bit(5), bit(6)]),
    }
}

/// Those of both families whose bit is set.
fn families_of(bits: [bool; 2]) -> FamilySet {
    Family::ALL.into_iter().zip(bits).filter(|&(_, on)| on).map(|(family, _)| family).collect()
}

fn check_update(update: &Update, len: usize, context: &DecodeContext) {
    let mut withdraws = false;
    for problem in &update.problems {
        assert!((23..=len).contains(&problem.offset), "{problem}");
        withdraws |= problem.treatment == Treatment::TreatAsWithdraw;
    }
    assert!(!withdraws || update.announced.is_empty(), "malformed, and announced");
    assert!(update.announced.len() <= 2 && update.withdrawn.len() <= 4);
    for withdrawal in &update.withdrawn {
        assert!(context.families.contains(withdrawal.family) && !withdrawal.prefixes.is_empty());
        assert!(withdrawal.prefixes.iter().all(|prefix| prefix.family() == withdrawal.family));
        check_path_ids(withdrawal.path_ids.len(), withdrawal.prefixes.len(), context, withdrawal.family);
    }
    for routes in &update.announced {
        assert!(context.families.contains(routes.family) && !routes.prefixes.is_empty());
        assert!(routes.prefixes.iter().all(|prefix| prefix.family() == routes.family));
        check_path_ids(routes.path_ids.len(), routes.prefixes.len(), context, routes.family);
        assert!(routes.attributes.next_hop.is_some(), "a route without next hop");
        let mut canonical = routes.attributes.clone();
        canonical.canonicalize();
        assert_eq!(canonical, routes.attributes, "equal attributes must be equal values");
        // What was taken can be sent on, and is read by the next one as it was read here.
        let next = DecodeContext {
            four_octet_asn: true,
            peer_kind: PeerKind::Internal,
            families: Family::ALL.into_iter().collect(),
            extended_next_hop: true,
            ..DecodeContext::default()
        };
        match wire::encode_announcements(routes.family, &routes.attributes, routes.prefixes.iter().copied(), true) {
            Ok(messages) => {
                let mut prefixes = Vec::new();
                for message in messages {
                    let Ok(Message::Update(again)) = wire::decode(&message, &next) else {
                        panic!("what we send on is no UPDATE");
                    };
                    let missing = |problem: &&wire::AttributeProblem| problem.attribute.0 != 5;
                    assert_eq!(again.problems.iter().find(missing), None, "what we send on is malformed");
                    for again in again.announced {
                        assert_eq!(again.attributes, routes.attributes);
                        prefixes.extend(again.prefixes);
                    }
                }
                if routes.attributes.local_pref.is_some() {
                    assert_eq!(prefixes, routes.prefixes);
                }
            }
            Err(EncodeError::TooLong { .. }) => {}
            // An IPv4 route with an IPv6 next hop can be received, and is sent on with one of our own.
            Err(EncodeError::NextHop(_)) => assert!(context.extended_next_hop),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Each prefix has an identifier of its path, or none has.
fn check_path_ids(path_ids: usize, prefixes: usize, context: &DecodeContext, family: Family) {
    assert_eq!(path_ids, if context.add_path.contains(family) { prefixes } else { 0 });
}

/// The body of a NOTIFICATION.
pub fn notification(data: &[u8]) {
    match wire::decode(&message(NOTIFICATION, data, 21), &DecodeContext::default()) {
        Ok(Message::Notification(notification)) => {
            let words = notification.to_string();
            assert!(!words.contains(char::is_control), "a log line of several: {words:?}");
            let _ = (notification.communication(), notification.hard_reset_reason());
            let again = wire::decode(&wire::encode_notification(&notification), &DecodeContext::default());
            assert_eq!(again, Ok(Message::Notification(notification)));
        }
        other => panic!("nothing is wrong with a NOTIFICATION: {other:?}"),
    }
}

/// The body of a ROUTE-REFRESH.
pub fn route_refresh(data: &[u8]) {
    match wire::decode(&message(ROUTE_REFRESH, data, 23), &DecodeContext::default()) {
        Ok(Message::RouteRefresh(refresh)) => {
            let again = wire::decode(&wire::encode_route_refresh(refresh), &DecodeContext::default());
            assert_eq!(again, Ok(Message::RouteRefresh(refresh)));
        }
        Ok(other) => panic!("not a ROUTE-REFRESH: {other:?}"),
        Err(notification) => {
            assert_eq!((notification.code, notification.subcode), (Notification::ROUTE_REFRESH_MESSAGE_ERROR, 1));
        }
    }
}
