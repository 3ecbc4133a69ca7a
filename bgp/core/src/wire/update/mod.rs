//! UPDATE from its octets, with the error handling of RFC 7606.
//!
//! The fields are cut out first, then each attribute is read on its own: what is wrong with one is noted with its
//! treatment and the next one is read. At the end the strongest treatment decides.

mod as4;
mod as_path;
mod attribute;
mod multiprotocol;
mod opaque;

use margay_net::Family;

use super::attributes::{AttributeType, Attributes};
use super::context::{DecodeContext, PeerKind};
use super::cursor::Cursor;
use super::header::HEADER_LEN;
use super::message::{Announcement, Update, Withdrawal};
use super::nlri::{self, Routes};
use super::notification::{Notification, UpdateError};
use super::problem::{AttributeProblem, ProblemReason, Treatment};
use attribute::Reader;

/// Reads the body of an UPDATE.
pub(super) fn decode(body: &[u8], context: &DecodeContext) -> Result<Update, Notification> {
    let mut cursor = Cursor::new(body, HEADER_LEN);
    let withdrawn = field(&mut cursor)?;
    let attributes = field(&mut cursor)?;
    let withdrawn = routes(withdrawn, context)?;
    let announced = routes(cursor, context)?;

    let mut reader = Reader::new(context, !announced.is_empty());
    reader.read(attributes)?;
    // Both End-of-RIB markers of RFC 4724 section 2.
    let end_of_rib = if withdrawn.is_empty() && announced.is_empty() {
        if attributes.is_empty() { Some(Family::V4) } else { reader.multiprotocol_end_of_rib() }
    } else {
        None
    };
    finish(reader, withdrawn, announced, end_of_rib, attributes.offset() + attributes.remaining())
}

/// Cuts out a field with its length before it. RFC 4271 section 6.3 has one error for both lengths.
fn field<'a>(cursor: &mut Cursor<'a>) -> Result<Cursor<'a>, Notification> {
    let field = cursor.u16().and_then(|len| cursor.take(usize::from(len)));
    field.ok_or_else(|| Notification::update(UpdateError::MalformedAttributeList))
}

fn routes(field: Cursor<'_>, context: &DecodeContext) -> Result<Routes, Notification> {
    let routes = nlri::read(Family::V4, field.rest(), context.add_path.contains(Family::V4));
    routes.ok_or_else(|| Notification::update(UpdateError::InvalidNetworkField))
}

/// Checks what concerns the message as a whole and puts the parts together.
fn finish(
    mut reader: Reader<'_>,
    withdrawn: Routes,
    announced: Routes,
    end_of_rib: Option<Family>,
    attributes_end: usize,
) -> Result<Update, Notification> {
    let context = *reader.context;
    let reachable = reader.mp_reach.as_ref().is_some_and(|reach| !reach.routes.is_empty());
    if !announced.is_empty() || reachable {
        let mut require = |attribute, needed: bool| {
            if needed && !reader.has(attribute) {
                reader.problems.push(AttributeProblem {
                    attribute,
                    offset: attributes_end,
                    treatment: Treatment::TreatAsWithdraw,
                    reason: ProblemReason::Missing,
                });
            }
        };
        require(AttributeType::ORIGIN, true);
        require(AttributeType::AS_PATH, true);
        require(AttributeType::NEXT_HOP, !announced.is_empty());
        require(AttributeType::LOCAL_PREF, context.peer_kind == PeerKind::Internal);
    }
    let treat_as_withdraw = reader.problems.iter().any(|problem| problem.treatment == Treatment::TreatAsWithdraw);
    // RFC 7606 section 5.2: the routes that such a message was to carry can't be known, thus not withdrawn.
    if treat_as_withdraw && announced.is_empty() && !reader.has_reachable_nlri && reader.has_other_attributes {
        return Err(Notification::update(UpdateError::MalformedAttributeList));
    }
    reader.merge_as4();

    let mut update =
        Update { end_of_rib: end_of_rib.filter(|&family| context.families.contains(family)), ..Update::default() };
    let mut withdraw = |family, routes: Routes| {
        let Routes { prefixes, path_ids } = routes;
        if !prefixes.is_empty() && context.families.contains(family) {
            update.withdrawn.push(Withdrawal { family, prefixes, path_ids });
        }
    };
    withdraw(Family::V4, withdrawn);
    if let Some((family, routes)) = reader.mp_unreach.take() {
        withdraw(family, routes);
    }
    let reach = reader.mp_reach.take().filter(|reach| !reach.routes.is_empty());
    if treat_as_withdraw {
        withdraw(Family::V4, announced);
        if let Some(reach) = reach {
            withdraw(reach.family, reach.routes);
        }
    } else {
        let mut announce = |family, routes: Routes, attributes: Attributes| {
            let Routes { prefixes, path_ids } = routes;
            if !prefixes.is_empty() && context.families.contains(family) {
                update.announced.push(Announcement { family, prefixes, path_ids, attributes });
            }
        };
        match reach {
            None => announce(Family::V4, announced, reader.attributes),
            Some(reach) => {
                if !announced.is_empty() {
                    announce(Family::V4, announced, reader.attributes.clone());
                }
                let next_hop = Some(reach.next_hop);
                let link_local_next_hop = reach.link_local;
                announce(reach.family, reach.routes, Attributes { next_hop, link_local_next_hop, ..reader.attributes });
            }
        }
    }
    update.problems = reader.problems;
    Ok(update)
}
