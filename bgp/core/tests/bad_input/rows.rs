//! How a row of the tables is tried: in every state, in one piece and octet by octet.

use margay_bgp_core::FsmState;
use margay_bgp_core::wire::encode_keepalive;

use crate::world::{PEER, ROUTE_V4, ROUTE_V6, World, update};

/// What must follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The NOTIFICATION of this code and subcode, and the end of the connection.
    Notification(u8, u8),
    /// The end of the connection without a word.
    Closed,
    /// The session goes on to OpenConfirm.
    Accepted,
    /// The session and the peer's routes stay.
    RoutesStay,
    /// The session stays, and the peer's IPv4 route, its IPv6 route, or both are gone.
    Withdrawn { v4: bool, v6: bool },
}

/// A message, what is wrong with it in words, and what follows in OpenSent, OpenConfirm and Established.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) message: Vec<u8>,
    pub(crate) answers: [Answer; 3],
}

impl Row {
    fn new(what: &str, message: Vec<u8>, answers: [Answer; 3]) -> Row {
        Row { what: what.to_owned(), message, answers }
    }

    /// A header that is wrong in every state.
    pub(crate) fn header(what: &str, message: Vec<u8>, subcode: u8) -> Row {
        Row::new(what, message, [Answer::Notification(1, subcode); 3])
    }

    /// A malformed OPEN.
    pub(crate) fn open(what: &str, message: Vec<u8>, subcode: u8) -> Row {
        let refused = Answer::Notification(2, subcode);
        Row::new(what, message, [refused, refused, Answer::Notification(5, 3)])
    }

    /// An OPEN that is odd but good.
    pub(crate) fn good_open(what: &str, message: Vec<u8>) -> Row {
        Row::new(what, message, [Answer::Accepted, Answer::Notification(5, 2), Answer::Notification(5, 3)])
    }

    /// An UPDATE or a ROUTE-REFRESH, which has no place before Established, whatever is in it (RFC 6608).
    pub(crate) fn established(what: &str, message: Vec<u8>, answer: Answer) -> Row {
        Row::new(what, message, [Answer::Notification(5, 1), Answer::Notification(5, 2), answer])
    }

    /// A NOTIFICATION, which is answered by none.
    pub(crate) fn notification(what: &str, message: Vec<u8>) -> Row {
        Row::new(what, message, [Answer::Closed; 3])
    }
}

const STATES: [FsmState; 3] = [FsmState::OpenSent, FsmState::OpenConfirm, FsmState::Established];

/// Tries rows in every state. `rows` makes them for a peer of another AS or of ours.
pub(crate) fn check(rows: impl Fn(bool) -> Vec<Row>) {
    for internal in [false, true] {
        for row in rows(internal) {
            let before_a_connection = World::at(FsmState::Connect, internal);
            not_there_yet(before_a_connection, &row);
            for (state, answer) in STATES.into_iter().zip(row.answers) {
                for piece in [row.message.len(), 1] {
                    let (mut world, connection) = World::at(state, internal);
                    for bytes in row.message.chunks(piece) {
                        world.receive(connection, bytes);
                    }
                    let place = format!("{} in {state}, internal: {internal}, {piece} octets at once", row.what);
                    judge(&mut world, connection, state, answer, &place);
                    world.assert_witness_unharmed(&place);
                }
            }
        }
    }
}

/// In Connect nothing can have come; the caller's mistake is no harm.
fn not_there_yet((mut world, connection): (World, margay_bgp_core::ConnectionId), row: &Row) {
    world.receive(connection, &row.message);
    world.receive(margay_bgp_core::ConnectionId(99_999), &row.message);
    world.assert_witness_unharmed(&row.what);
    assert_eq!(world.peer(PEER).established_count, 0, "{}", row.what);
}

fn judge(world: &mut World, connection: margay_bgp_core::ConnectionId, state: FsmState, answer: Answer, place: &str) {
    let view = world.peer(PEER);
    let routes = (world.has(ROUTE_V4), world.has(ROUTE_V6));
    match answer {
        Answer::Notification(code, subcode) => {
            let sent = world.notification(connection).unwrap_or_else(|| panic!("{place}: no NOTIFICATION"));
            assert_eq!((sent.code, sent.subcode), (code, subcode), "{place}: {sent}");
            assert!(view.state < FsmState::OpenSent, "{place}");
            assert!(view.last_error.is_some(), "{place}: the operator is told why");
            assert_eq!(routes, (false, false), "{place}");
        }
        Answer::Closed => {
            assert_eq!(world.notification(connection), None, "{place}");
            assert!(world.pipes[&connection].closed && view.state < FsmState::OpenSent, "{place}");
            assert!(view.last_error.unwrap().starts_with("received NOTIFICATION"), "{place}");
            assert_eq!(routes, (false, false), "{place}");
        }
        Answer::Accepted => {
            assert_eq!(view.state, FsmState::OpenConfirm, "{place}: {:?}", view.last_error);
            world.receive(connection, &encode_keepalive());
            assert_eq!(world.peer(PEER).state, FsmState::Established, "{place}");
        }
        Answer::RoutesStay | Answer::Withdrawn { .. } => {
            assert_eq!(state, FsmState::Established);
            assert_eq!(view.state, FsmState::Established, "{place}: {:?}", view.last_error);
            let gone = if let Answer::Withdrawn { v4, v6 } = answer { (v4, v6) } else { (false, false) };
            assert_eq!(routes, (!gone.0, !gone.1), "{place}: routes left");
            let next = update(&[], &world.mandatory(), &[24, 10, 9, 9]);
            world.receive(connection, &next);
            assert!(world.has("10.9.9.0/24"), "{place}: the next good message is taken");
        }
    }
}
