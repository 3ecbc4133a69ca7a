//! How eagerly the kernel runs this thread.

use std::io;

/// Has the calling thread run before every thread of normal priority (`SCHED_RR` of `sched(7)`, `priority` 1 to 99);
/// threads and processes that it starts are normal again. Needs CAP_SYS_NICE or a limit RLIMIT_RTPRIO.
pub fn set_round_robin(priority: u8) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: priority.into() };
    // SAFETY: the pointer is to a value that lives across the call; 0 is the calling thread.
    let result =
        unsafe { libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &raw const parameter) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the nice value of the calling thread, -20 (first) to 19 (last).
pub fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: setpriority takes no pointers; 0 is the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_that_does_not_exist_is_refused() {
        // On a thread of its own: others go on as they are.
        let refused = std::thread::spawn(|| set_round_robin(100)).join().expect("no panic");
        assert_eq!(refused.expect_err("99 is the highest").raw_os_error(), Some(libc::EINVAL));
        std::thread::spawn(|| set_nice(5)).join().expect("no panic").expect("anyone may be nicer");
    }
}
