//! The demo's facts, asserted over datastores and address families; and that a broken fabric is found out.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};
use margay_lab::bird::Fault;
use margay_lab::demo::{self, DemoOptions};
use margay_lab::{DatastoreKind, Families, isolation};

fn options(families: Families, datastore: DatastoreKind) -> DemoOptions {
    let config: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/examples");
    DemoOptions { config, families, datastore, fault: None }
}

/// The demos measure outages: they don't share the machine's cores among each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn isolated(test: &str, body: impl FnOnce() -> Result<()>) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    isolation::isolated(test, body);
}

fn every_fact_holds(families: Families, datastore: DatastoreKind) -> Result<()> {
    ensure!(demo::run(&options(families, datastore)).conclude(), "not every fact of the demo holds, see above");
    Ok(())
}

#[test]
fn every_fact_holds_with_ipv4_on_sqlite() {
    isolated("every_fact_holds_with_ipv4_on_sqlite", || every_fact_holds(Families::V4, DatastoreKind::Sqlite));
}

#[test]
fn every_fact_holds_with_ipv6_on_etcd() {
    isolated("every_fact_holds_with_ipv6_on_etcd", || every_fact_holds(Families::V6, DatastoreKind::Etcd));
}

#[test]
fn every_fact_holds_with_both_families_on_etcd() {
    isolated("every_fact_holds_with_both_families_on_etcd", || every_fact_holds(Families::Dual, DatastoreKind::Etcd));
}

#[test]
fn a_rack_whose_routers_do_not_export_the_pool_is_found_out() {
    isolated("a_rack_whose_routers_do_not_export_the_pool_is_found_out", || {
        let broken = DemoOptions { fault: Some(Fault::TorExport), ..options(Families::V4, DatastoreKind::Sqlite) };
        ensure!(!demo::run(&broken).conclude(), "the demo passed although rack b's pods are not announced");
        Ok(())
    });
}
