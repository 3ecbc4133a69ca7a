use margay_net::{Cidr, Instant};

use super::io::{KernelOp, Output, Refusal};
use super::reconciler::RouteReconciler;

impl RouteReconciler {
    /// Takes in how the operations under way ended.
    pub(super) fn outcome(&mut self, results: Vec<Result<(), Refusal>>, now: Instant) {
        for (op, result) in self.in_flight.take().unwrap_or_default().into_iter().zip(results) {
            let prefix = match &op {
                KernelOp::Add(route) | KernelOp::Replace(route) | KernelOp::Delete(route) => route.prefix,
                KernelOp::SetNeighbour(entry) | KernelOp::DeleteNeighbour(entry) => Cidr::host(entry.addr),
                KernelOp::AddAddress { .. } | KernelOp::DeleteAddress { .. } => {
                    self.address_done(&op, result.err().map(|refusal| refusal.reason), now);
                    continue;
                }
            };
            match result {
                Ok(()) => {
                    self.note_done(op);
                    if self.diff(prefix).is_empty() {
                        self.failures.clear(prefix);
                    }
                }
                Err(refusal) => {
                    let first = self.failures.note(prefix, format!("{op}: {}", refusal.reason), now);
                    if refusal.exists && first {
                        self.queue.push_back(Output::Resync);
                    }
                }
            }
        }
    }

    fn note_done(&mut self, op: KernelOp) {
        match op {
            KernelOp::Add(route) | KernelOp::Replace(route) => _ = self.kernel.set(route),
            KernelOp::Delete(route) => _ = self.kernel.remove(route.prefix, route.metric),
            KernelOp::SetNeighbour(entry) => {
                self.kernel.set_neighbour(entry.interface, entry.addr, Some(entry.mac));
            }
            KernelOp::DeleteNeighbour(entry) => {
                self.kernel.set_neighbour(entry.interface, entry.addr, None);
            }
            KernelOp::AddAddress { .. } | KernelOp::DeleteAddress { .. } => {}
        }
    }
}
