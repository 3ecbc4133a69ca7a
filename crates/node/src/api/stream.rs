//! Answers that do not end: a line of JSON for each event.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use margay_local_api::BgpEvent;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::bgp_events::{concerns, lost};

/// Lines that may wait for a slow reader.
const QUEUE: usize = 64;

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

fn line(event: &BgpEvent) -> Bytes {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
