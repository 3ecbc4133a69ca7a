use std::io;
use std::thread;

use margay_net::FibBatch;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::handle::SpeakerHandle;
use crate::task::{SpeakerOptions, spawn};

/// Starts a speaker like [`spawn`], on a thread and a runtime of its own.
///
/// A change that goes to hundreds of peers is out sooner, as no other thread is woken for each socket; and nothing else
/// of the process makes a session wait. The task on the current runtime stands for it: it ends and panics as the speaker
/// does, and aborting it ends the speaker.
///
/// # Errors
///
/// When the system gives no thread, or no descriptors for the runtime.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn spawn_thread(
    options: SpeakerOptions,
    fib: mpsc::Sender<FibBatch>,
) -> io::Result<(SpeakerHandle, JoinHandle<()>)> {
    let (wanted, unwanted) = oneshot::channel::<()>();
    let (ended, end) = oneshot::channel();
    // The thread is there before its runtime, which must not be dropped in an asynchronous context.
    let (hand_over, taken) = std::sync::mpsc::channel::<(Runtime, JoinHandle<()>)>();
    thread::Builder::new().name("bgp".to_owned()).spawn(move || {
        let Ok((runtime, task)) = taken.recv() else { return };
        let outcome = runtime.block_on(async {
            tokio::select! {
                outcome = task => outcome,
                _ = unwanted => Ok(()),
            }
        });
        // What is left of a speaker that was aborted goes with its runtime, before anybody is told.
        drop(runtime);
        let _ = ended.send(outcome);
    })?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (handle, task) = {
        let _context = runtime.enter();
        spawn(options, fib)
    };
    // It waits for just this.
    let _ = hand_over.send((runtime, task));
    let stand_in = tokio::spawn(async move {
        let _wanted = wanted;
        if let Ok(Err(error)) = end.await
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    });
    Ok((handle, stand_in))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use margay_bgp_core::{SpeakerConfig, StopKind};
    use margay_net::Asn;
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    async fn start(port: u16) -> (SpeakerHandle, JoinHandle<()>, mpsc::Receiver<FibBatch>) {
        let (fib, batches) = mpsc::channel(8);
        let (handle, task) = spawn_thread(SpeakerOptions { restarting: false, seed: 1 }, fib).unwrap();
        let mut config = SpeakerConfig::new(Asn(65001), [10, 0, 0, 1].into());
        (config.listen_port, config.listen_addresses) = (port, [[127, 0, 0, 1].into()].into());
        handle.configure(config).await.unwrap();
        (handle, task, batches)
    }

    #[tokio::test]
    async fn its_task_ends_when_it_is_stopped() {
        let (handle, task, _batches) = start(0).await;
        handle.stop(StopKind::Restart).await;
        timeout(SOON, task).await.unwrap().unwrap();
        assert!(handle.peers().await.is_err());
    }

    #[tokio::test]
    async fn aborting_its_task_closes_its_sockets() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (handle, task, _batches) = start(port).await;
        let connects = || TcpStream::connect(("127.0.0.1", port));
        timeout(SOON, async { while connects().await.is_err() {} }).await.unwrap();
        task.abort();
        timeout(SOON, async { while connects().await.is_ok() {} }).await.unwrap();
        assert!(handle.peers().await.is_err());
    }
}
