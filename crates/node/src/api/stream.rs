//! Answers that are sent as they are made: events, a line of JSON for each, without end; and routes, of which there may
//! be more than should be held at once.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use margay_bgp_speaker::{RoutePages, SpeakerGone};
use margay_local_api::BgpEvent;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::bgp_events::{concerns, lost};
use crate::bgp_view;

/// Lines that may wait for a slow reader.
const QUEUE: usize = 64;
/// Pages of routes that may.
const PAGES: usize = 4;

/// The events so far and those that come, until the client goes or no more can come.
pub(super) fn ndjson(recent: Vec<BgpEvent>, mut live: broadcast::Receiver<BgpEvent>, peer: Option<String>) -> Response {
    let (lines, receiver) = mpsc::channel::<Result<Bytes, Infallible>>(QUEUE);
    tokio::spawn(async move {
        for event in recent {
            if lines.send(Ok(line(&event))).await.is_err() {
                return;
            }
        }
        loop {
            let event = tokio::select! {
                // A client that went away is noticed at once, not at the next event.
                () = lines.closed() => return,
                event = live.recv() => match event {
                    Ok(event) if !concerns(&event, peer.as_deref()) => continue,
                    Ok(event) => event,
                    Err(RecvError::Lagged(count)) => lost(count),
                    Err(RecvError::Closed) => return,
                },
            };
            if lines.send(Ok(line(&event))).await.is_err() {
                return;
            }
        }
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(ReceiverStream::new(receiver))).into_response()
}

/// A [`margay_local_api::BgpRoutes`]; with `rejected`, only paths that are, and routes that have such. An answer that
/// cannot be ended breaks off.
pub(super) fn routes(mut pages: RoutePages, rejected: bool) -> Response {
    let (parts, receiver) = mpsc::channel::<Result<Vec<u8>, SpeakerGone>>(PAGES);
    tokio::spawn(async move {
        let mut part = br#"{"routes":["#.to_vec();
        let mut first = true;
        loop {
            let page = match pages.next().await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                Err(gone) => {
                    // A client that went away needs no word of it.
                    let _ = parts.send(Err(gone)).await;
                    return;
                }
            };
            for mut route in page {
                route.paths.retain(|path| !rejected || path.rejected.is_some());
                if route.paths.is_empty() {
                    continue;
                }
                if !std::mem::take(&mut first) {
                    part.push(b',');
                }
                part.extend(serde_json::to_vec(&bgp_view::route(&route)).unwrap_or_default());
            }
            if parts.send(Ok(std::mem::take(&mut part))).await.is_err() {
                return;
            }
        }
        part.extend(b"]}");
        let _ = parts.send(Ok(part)).await;
    });
    ([(CONTENT_TYPE, "application/json")], Body::from_stream(ReceiverStream::new(receiver))).into_response()
}

fn line(event: &BgpEvent) -> Bytes {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
