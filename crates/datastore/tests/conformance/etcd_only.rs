//! What can only be asked of a server: it is away, comes back, wants certificates and passwords.

use std::time::{Duration, Instant};

use margay_datastore::{
    Datastore, EtcdOptions, EtcdStore, EtcdTls, PrefixEvent, Revision, StoreError, WatchEvent, watch_prefix,
};

use crate::Backend;
use crate::etcd::Etcd;
use crate::suite::next;

const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_store_that_is_away_at_the_start_works_once_it_is_there() {
    let mut etcd = Etcd::prepared();
    let store = etcd.open();
    let asked = Instant::now();
    let error = store.get("/t/a").await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains(&etcd.endpoint()), "{error}");
    assert!(store.create("/t/a", b"1").await.unwrap_err().is_retryable());
    assert!(store.watch("/t/", Revision::ZERO).await.unwrap_err().is_retryable());
    assert!(asked.elapsed() < Duration::from_secs(10), "each call answers within its limit");

    let mut events = watch_prefix(store.clone(), "/t/");
    let mut next = async || tokio::time::timeout(DEADLINE, events.recv()).await.unwrap().unwrap();
    assert!(matches!(next().await, PrefixEvent::Unavailable { .. }));
    etcd.launch();
    Etcd::wait_until_served(&*store).await;
    let mut event = next().await;
    while matches!(event, PrefixEvent::Unavailable { .. }) {
        event = next().await;
    }
    assert_eq!(event, PrefixEvent::Available);
    assert_eq!(next().await, PrefixEvent::Snapshot(Vec::new()));
    assert_eq!(next().await, PrefixEvent::InSync);
    store.create("/t/a", b"1").await.unwrap();
    assert!(matches!(next().await, PrefixEvent::Put(item) if item.key == "/t/a"));
}

#[tokio::test]
async fn a_watch_goes_on_without_a_gap_when_etcd_is_restarted() {
    let mut etcd = Etcd::start().await;
    let (store, other) = (etcd.open(), etcd.open());
    let mut stream = store.watch("/t/", Revision::ZERO).await.unwrap();
    let mut written = Vec::new();
    for n in 0..10 {
        written.push(store.create(&format!("/t/a{n}"), b"").await.unwrap());
    }
    etcd.kill();
    etcd.launch();
    Etcd::wait_until_served(&*other).await;
    for n in 0..10 {
        written.push(other.create(&format!("/t/b{n}"), b"").await.unwrap());
    }
    for revision in written {
        assert_eq!(next(&mut stream).await.unwrap().revision(), revision);
    }
}

#[tokio::test]
async fn an_etcd_made_anew_under_the_same_address_ends_a_watch() {
    let mut etcd = Etcd::start().await;
    let store = etcd.open();
    let mut stream = store.watch("/t/", Revision::ZERO).await.unwrap();
    store.create("/t/a", b"").await.unwrap();
    assert!(matches!(next(&mut stream).await, Ok(WatchEvent::Put(_))));
    etcd.kill();
    etcd.wipe();
    etcd.launch();
    assert!(matches!(next(&mut stream).await, Err(margay_datastore::WatchError::Compacted { .. })));
}

#[tokio::test]
async fn a_dead_endpoint_costs_no_call_while_another_one_answers() {
    let etcd = Etcd::start().await;
    let dead = Etcd::prepared();
    for endpoints in [[dead.endpoint(), etcd.endpoint()], [etcd.endpoint(), dead.endpoint()]] {
        let store = EtcdStore::open(endpoints.to_vec(), EtcdOptions::default()).unwrap();
        for n in 0..20 {
            let key = format!("/t/{n}");
            let revision = store.create(&key, b"").await.unwrap();
            store.delete(&key, Some(revision)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_listing_of_several_pages_is_complete_and_of_one_revision() {
    let etcd = Etcd::start().await;
    let store = etcd.open();
    let mut client = etcd_client::Client::connect([etcd.endpoint()], None).await.unwrap();
    for batch in 0..25 {
        let puts = (0..100).map(|n| etcd_client::TxnOp::put(format!("/t/{batch:02}-{n:02}"), "v", None));
        client.txn(etcd_client::Txn::new().and_then(puts.collect::<Vec<_>>())).await.unwrap();
    }
    // Written by something else, and of no use to us.
    client.put(b"/t/\xff\xfe".to_vec(), "v", None).await.unwrap();
    let listing = store.list("/t/").await.unwrap();
    assert_eq!(listing.items.len(), 2500);
    assert!(listing.items.windows(2).all(|pair| pair[0].key < pair[1].key));
    let mut stream = store.watch("/t/", listing.revision).await.unwrap();
    client.put(b"/t/\xff\xfe".to_vec(), "w", None).await.unwrap();
    // One write of several keys: all of its events arrive.
    let puts = (0..3).map(|n| etcd_client::TxnOp::put(format!("/t/{n}"), "v", None)).collect::<Vec<_>>();
    client.txn(etcd_client::Txn::new().and_then(puts)).await.unwrap();
    for n in 0..3 {
        assert_eq!(next(&mut stream).await.unwrap().key(), format!("/t/{n}"));
    }
}

#[tokio::test]
async fn a_user_logs_in_and_a_wrong_password_is_said_to_be_one() {
    let etcd = Etcd::start().await;
    let mut admin = etcd_client::Client::connect([etcd.endpoint()], None).await.unwrap();
    admin.user_add("root", "right", None).await.unwrap();
    admin.user_grant_role("root", "root").await.unwrap();
    admin.auth_enable().await.unwrap();
    let open = |credentials: Option<&str>| {
        let credentials = credentials.map(|password| ("root".to_owned(), password.to_owned()));
        EtcdStore::open(vec![etcd.endpoint()], EtcdOptions { credentials, tls: None }).unwrap()
    };
    let store = open(Some("right"));
    let revision = store.create("/t/a", b"1").await.unwrap();
    let mut stream = store.watch("/t/", Revision::ZERO).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().revision(), revision);
    for wrong in [Some("wrong"), None] {
        let error = open(wrong).get("/t/a").await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains("MARGAY_ETCD_PASSWORD"), "{error}");
    }
}

#[tokio::test]
async fn tls_with_a_client_certificate_works_and_an_unknown_authority_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let (server, client) = (authority.sign("server"), authority.sign("client"));
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut etcd = Etcd::prepared().with_tls(
        &write("server.pem", &server.0),
        &write("server.key", &server.1),
        &write("ca.pem", &authority.certificate.pem()),
    );
    etcd.launch();
    let open = |authority: &Authority, identity: Option<&(String, String)>| {
        let identity = identity.map(|(certificate, key)| (certificate.clone().into_bytes(), key.clone().into_bytes()));
        let tls = EtcdTls { authority: authority.certificate.pem().into_bytes(), identity };
        EtcdStore::open(vec![etcd.endpoint()], EtcdOptions { credentials: None, tls: Some(tls) }).unwrap()
    };
    let store = open(&authority, Some(&client));
    Etcd::wait_until_served(&store).await;
    store.create("/t/a", b"1").await.unwrap();
    assert_eq!(store.get("/t/a").await.unwrap().unwrap().value, b"1");

    let stranger = open(&Authority::new("theirs"), Some(&client));
    assert!(stranger.get("/t/a").await.unwrap_err().is_retryable());
    assert!(open(&authority, None).get("/t/a").await.is_err(), "etcd wants a client certificate");
}

struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::DigitalSignature];
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Self { certificate, issuer: rcgen::Issuer::new(parameters, key) }
    }

    /// Returns a certificate for 127.0.0.1 and its key in PEM, good for servers and clients.
    fn sign(&self, name: &str) -> (String, String) {
        let mut parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}
