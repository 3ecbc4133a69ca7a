use std::io::Read;
use std::path::PathBuf;

use margay_netlink::netns;

/// A named namespace, deleted on drop.
pub(crate) struct Namespace(pub(crate) String);

impl Namespace {
    pub(crate) fn new() -> Namespace {
        let mut random = [0; 4];
        std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
        let name = format!("mgy-{:08x}", u32::from_ne_bytes(random));
        netns::create(&name).expect("these tests need root");
        Namespace(name)
    }

    pub(crate) fn path(&self) -> PathBuf {
        netns::path(&self.0)
    }

    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::in_namespace(&self.0, work).unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = netns::delete(&self.0);
    }
}
