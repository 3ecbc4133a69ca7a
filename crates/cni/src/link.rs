//! The pod's link: made with its host end down, set up on the pod's side once the daemon has done the host's.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use margay_net::{Cidr, Family, Mac};
use margay_netlink::rtnl::{Address, Neighbour, Route, RouteChange, RouteFilter, RouteHop, Rtnl, VethSpec};
use margay_netlink::{NetlinkError, netns, sysctl};
use sha1::{Digest, Sha1};

use crate::error::CniError;
use crate::result::{Added, Expected};

/// The protocol of the routes inside the pod, `RTPROT_STATIC` (linux/rtnetlink.h).
const STATIC: u8 = 4;

/// `ENOENT`, `EEXIST` and `EINVAL` (asm-generic/errno-base.h).
const NO_ENTRY: i32 = 2;
const EXISTS: i32 = 17;
const INVALID: i32 = 22;

/// The name of the host's end: `cali` and eleven hexadecimal digits of the SHA-1 of `NAMESPACE.POD`, as Calico names it;
/// further interfaces of a pod go by `NAMESPACE.POD.INTERFACE`.
pub(crate) fn host_interface(namespace: &str, pod: &str, interface: &str) -> String {
    let name = match interface {
        "eth0" => format!("{namespace}.{pod}"),
        other => format!("{namespace}.{pod}.{other}"),
    };
    let digest = Sha1::digest(name.as_bytes());
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("cali{}", &digits[..11])
}

/// The address of the pod's end: locally administered, and the same for an ADD that is tried again.
pub(crate) fn pod_mac(container_id: &str, interface: &str) -> Mac {
    let digest = Sha1::digest(format!("{container_id}.{interface}").as_bytes());
    Mac([0x02, digest[0], digest[1], digest[2], digest[3], digest[4]])
}

/// Makes the veth pair, both ends down, and returns its MTU. A host end that an earlier pod of the same name left goes
/// first; an interface of that name inside the pod is an error.
pub(crate) fn create(
    netns: &Path,
    interface: &str,
    host_interface: &str,
    mac: Mac,
    mtu: Option<u32>,
) -> Result<u32, CniError> {
    let pod = open(netns)?;
    let failed = |error: NetlinkError| CniError::io(format!("cannot make the link {host_interface}"), &error);
    let mut rtnl = Rtnl::open().map_err(failed)?;
    if in_netns(netns, || Rtnl::open()?.link(interface))?.is_some() {
        let details = "the container is attached already; DEL it first";
        return Err(CniError::new(
            CniError::IO_FAILURE,
            format!("there is an interface {interface} in {}", netns.display()),
            details,
        ));
    }
    if let Some(old) = rtnl.link(host_interface).map_err(failed)? {
        rtnl.delete_link(old.index).map_err(failed)?;
    }
    let spec = VethSpec {
        name: host_interface,
        mac: Some(Mac::HOST_SIDE),
        peer_name: interface,
        peer_mac: Some(mac),
        peer_netns: Some(pod.as_fd()),
        mtu,
    };
    rtnl.create_veth(&spec).map_err(failed)?;
    if let Some(mtu) = mtu {
        return Ok(mtu);
    }
    match rtnl.link(host_interface) {
        Ok(Some(link)) => Ok(link.mtu),
        // Nobody can know what it is like: it goes again.
        Ok(None) => Err(CniError::new(CniError::IO_FAILURE, format!("the link {host_interface} vanished"), "")),
        Err(error) => {
            let _ = delete(netns, interface);
            Err(failed(error))
        }
    }
}

/// Refuses the namespace that the plugin itself runs in: the host's interfaces are no container's. A namespace that is
/// gone is nobody's.
pub(crate) fn refuse_host_netns(netns: &Path) -> Result<(), CniError> {
    let identity = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    let own = identity(Path::new("/proc/thread-self/ns/net"));
    if own.is_none() || identity(netns) != own {
        return Ok(());
    }
    let message = format!("CNI_NETNS {} is the host's own network namespace", netns.display());
    Err(CniError::new(CniError::INVALID_NETNS, message, "a container needs a namespace of its own"))
}

/// Gives the pod's end its addresses, the gateway as a permanent neighbour, and the default routes, and turns it on.
pub(crate) fn configure(netns: &Path, added: &Added) -> Result<(), CniError> {
    let families: Vec<Family> =
        Family::ALL.into_iter().filter(|family| added.addresses.iter().any(|a| Family::of(*a) == *family)).collect();
    if families.contains(&Family::V6) {
        let keys = ["disable_ipv6", "accept_ra"].map(|key| format!("net/ipv6/conf/{}/{key}", added.interface));
        let set = netns::in_namespace(netns, || keys.iter().try_for_each(|key| sysctl::ensure(key, "0").map(drop)));
        set.map_err(|error| CniError::io("cannot enter the pod's namespace", &error))?
            .map_err(|error| CniError::io("cannot set up IPv6 in the pod", &error))?;
    }
    in_netns(netns, || {
        let mut rtnl = Rtnl::open()?;
        let Some(link) = rtnl.link(&added.interface)? else { return Ok(false) };
        rtnl.set_up(link.index)?;
        for address in &added.addresses {
            let address = Address::new(link.index, *address, Family::of(*address).bits()).without_dad();
            rtnl.add_address(&address)?;
        }
        for family in &families {
            let Some(gateway) = added.gateway(*family) else { continue };
            rtnl.set_neighbour(&Neighbour::permanent(link.index, gateway, Mac::HOST_SIDE))?;
            if *family == Family::V4 {
                let on_link = Route::unicast(Cidr::host(gateway), STATIC, vec![RouteHop::link(link.index)]);
                add_route(&mut rtnl, on_link)?;
            }
            let default = Route::unicast(Cidr::any(*family), STATIC, vec![RouteHop::via(gateway, link.index)]);
            add_route(&mut rtnl, default)?;
        }
        Ok(true)
    })?
    .then_some(())
    .ok_or_else(|| CniError::new(CniError::IO_FAILURE, format!("{} vanished from the pod", added.interface), ""))
}

fn add_route(rtnl: &mut Rtnl, route: Route) -> Result<(), NetlinkError> {
    match rtnl.change_route(RouteChange::Add(route)) {
        Err(error) if error.errno() == Some(EXISTS) => Ok(()),
        other => other,
    }
}

/// Deletes the pod's end, and with it the host's. Succeeds where the link or the namespace is gone.
pub(crate) fn delete(netns: &Path, interface: &str) -> Result<(), CniError> {
    let deleted = netns::in_namespace(netns, || {
        let mut rtnl = Rtnl::open()?;
        match rtnl.link(interface)? {
            Some(link) => rtnl.delete_link(link.index),
            None => Ok(()),
        }
    });
    match deleted {
        // Nothing is there, or no more than the file that a namespace was bound to.
        Err(error) if matches!(error.source.raw_os_error(), Some(NO_ENTRY | INVALID)) => Ok(()),
        Err(error) => Err(CniError::io("cannot enter the pod's namespace", &error)),
        Ok(deleted) => deleted.map_err(|error| CniError::io(format!("cannot delete {interface}"), &error)),
    }
}

/// What of the pod's side is not as ADD left it, in words.
pub(crate) fn inspect(netns: &Path, interface: &str, expected: &Expected) -> Result<Vec<String>, CniError> {
    open(netns)?;
    in_netns(netns, || {
        let mut rtnl = Rtnl::open()?;
        let Some(link) = rtnl.link(interface)? else { return Ok(vec![format!("there is no interface {interface}")]) };
        let mut problems = Vec::new();
        if !link.is_up() {
            problems.push(format!("{interface} is down"));
        }
        if let (Some(expected), Some(found)) = (expected.mac, link.mac)
            && expected != found
        {
            problems.push(format!("{interface} has MAC {found}, not {expected}"));
        }
        let addresses = rtnl.addresses()?;
        let routes = rtnl.routes(&RouteFilter { interface: Some(link.index), ..RouteFilter::default() })?;
        let neighbours = rtnl.neighbours()?;
        for address in &expected.addresses {
            if !addresses.iter().any(|found| found.interface == link.index && found.addr == *address) {
                problems.push(format!("address {address} is missing"));
            }
            let family = Family::of(*address);
            let default = routes.iter().find(|route| route.prefix == Cidr::any(family));
            let gateway = default.and_then(|route| route.next_hops.first()).and_then(|hop| hop.gateway);
            if let Some(gateway @ IpAddr::V4(_)) = gateway
                && !routes.iter().any(|route| route.prefix == Cidr::host(gateway))
            {
                problems.push(format!("the route to the gateway {gateway} is missing"));
            }
            match gateway {
                None => problems.push(format!("the {family} default route is missing")),
                Some(gateway) if !has_gateway(&neighbours, link.index, gateway) => {
                    problems.push(format!("the permanent neighbour {gateway} is missing"));
                }
                Some(_) => {}
            }
        }
        Ok(problems)
    })
}

fn has_gateway(neighbours: &[Neighbour], interface: u32, gateway: IpAddr) -> bool {
    neighbours.iter().any(|neighbour| {
        neighbour.interface == interface
            && neighbour.addr == gateway
            && neighbour.mac == Some(Mac::HOST_SIDE)
            && neighbour.is_permanent()
    })
}

fn open(netns: &Path) -> Result<File, CniError> {
    File::open(netns).map_err(|error| {
        CniError::new(CniError::INVALID_ENVIRONMENT, format!("cannot open CNI_NETNS {}", netns.display()), error)
    })
}

fn in_netns<T: Send>(netns: &Path, work: impl FnOnce() -> Result<T, NetlinkError> + Send) -> Result<T, CniError> {
    netns::in_namespace(netns, work)
        .map_err(|error| CniError::io("cannot enter the pod's namespace", &error))?
        .map_err(|error| CniError::io(format!("cannot set up the pod's side in {}", netns.display()), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_host_interfaces_are_calicos() {
        // What sha1sum says of "default.nginx".
        assert_eq!(host_interface("default", "nginx", "eth0"), "calic440f455693");
        assert_ne!(host_interface("default", "nginx", "eth0"), host_interface("default", "nginx", "net1"));
        assert!(host_interface("shop", "web-0", "eth0").starts_with("cali"));
    }

    #[test]
    fn the_hosts_namespace_is_refused_and_one_that_is_gone_is_not() {
        let host = refuse_host_netns(Path::new("/proc/self/ns/net")).expect_err("the host's");
        assert_eq!(host.code, 8);
        assert_eq!(refuse_host_netns(Path::new("/nonexistent/netns")), Ok(()));
        assert_eq!(delete(Path::new("/nonexistent/netns"), "eth0"), Ok(()));
        // What a namespace leaves where only its mount went.
        let file = std::env::temp_dir().join(format!("margay-cni-{}", std::process::id()));
        std::fs::write(&file, "").expect("a file");
        let deleted = delete(&file, "eth0");
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(deleted, Ok(()));
    }

    #[test]
    fn a_pods_mac_is_local_unicast_and_does_not_change() {
        let Mac([first, ..]) = pod_mac("c1", "eth0");
        assert_eq!(first & 0x03, 0x02);
        assert_eq!(pod_mac("c1", "eth0"), pod_mac("c1", "eth0"));
        assert_ne!(pod_mac("c1", "eth0"), pod_mac("c2", "eth0"));
    }
}
