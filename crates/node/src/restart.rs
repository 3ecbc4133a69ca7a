//! Whether this start is a restart with the forwarding state preserved (RFC 4724 section 4.1).

use std::path::Path;

use margay_netlink::rtnl::{RouteFilter, Rtnl};

use crate::Exit;

/// The kernel's identity since boot; routes of an earlier boot are gone.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// True where the last start on this machine was in this boot and BGP's routes of it are still in the kernel. Records
/// this start.
pub(crate) fn is_restart(state: &Path) -> Result<bool, Exit> {
    if !is_same_boot(state)? {
        return Ok(false);
    }
    let filter = RouteFilter { protocol: Some(margay_felix_agent::BGP_PROTOCOL), ..RouteFilter::default() };
    let routes = Rtnl::open()
        .and_then(|mut rtnl| rtnl.routes(&filter))
        .map_err(|error| Exit::failed(format!("cannot read the kernel's routes: {error}")))?;
    Ok(!routes.is_empty())
}

/// True where the last start was in this boot. Records this start.
pub(crate) fn is_same_boot(state: &Path) -> Result<bool, Exit> {
    let failed = |what: &Path, error: std::io::Error| Exit::failed(format!("cannot use {}: {error}", what.display()));
    std::fs::create_dir_all(state).map_err(|error| failed(state, error))?;
    let file = state.join("boot-id");
    let boot_id = std::fs::read_to_string(BOOT_ID).map_err(|error| failed(Path::new(BOOT_ID), error))?;
    let same_boot = std::fs::read_to_string(&file).is_ok_and(|last| last == boot_id);
    std::fs::write(&file, &boot_id).map_err(|error| failed(&file, error))?;
    Ok(same_boot)
}
