use margay_netlink::schedule;

/// Above the normal, below what the kernel's own threads have.
const PRIORITY: u8 = 10;

/// Has this process run before others as far as it may, and says how far that is.
pub(super) fn prefer_this_process() -> String {
    let refused = match schedule::set_round_robin(PRIORITY) {
        Ok(()) => return format!("SCHED_RR, priority {PRIORITY}"),
        Err(error) => error,
    };
    let said = match schedule::set_nice(-20) {
        Ok(()) => format!("nice -20 (SCHED_RR refused: {refused})"),
        Err(error) => format!("normal (SCHED_RR refused: {refused}; nice -20 refused: {error})"),
    };
    tracing::warn!("BFD runs as {said}: on a busy machine it may be late; give it CAP_SYS_NICE");
    said
}
