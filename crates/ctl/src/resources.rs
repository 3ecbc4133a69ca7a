//! `apply`, `create`, `replace`, `delete` and `get`.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use margay_api::kinds::{IpPool, IpPoolSpec};
use margay_api::parse_documents;
use margay_datastore::{Datastore, KeyValue, StoreError};
use serde_json::{Value, json};

use crate::conditions::{self, Conditions};
use crate::kinds::{self, Kind, Prepared};
use crate::output::{self, Format};
use crate::{Connection, Failure, store};

#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// Files or directories to read; - is standard input.
    #[arg(short = 'f', long = "filename", required = true)]
    files: Vec<PathBuf>,
    /// The namespace of objects that name none.
    #[arg(short, long)]
    namespace: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Files whose objects to delete; - is standard input.
    #[arg(short = 'f', long = "filename", conflicts_with = "kind")]
    files: Vec<PathBuf>,
    /// The kind, as in bgppeers.
    #[arg(required_unless_present = "files")]
    kind: Option<String>,
    /// The names.
    #[arg(requires = "kind")]
    names: Vec<String>,
    #[arg(short, long)]
    namespace: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The kind, as in bgppeers.
    kind: String,
    /// One object; all where absent.
    name: Option<String>,
    /// The namespace; `default` where absent.
    #[arg(short, long, conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Apply,
    Create,
    Replace,
}

/// Writes every object of the files. All are read and checked before the first is written.
pub(crate) fn write(connection: &Connection, args: &FileArgs, mode: Mode) -> Result<(), Failure> {
    let prepared = read_files(&args.files, args.namespace.as_deref())?;
    let datastore = store::open(connection)?;
    store::block_on(async {
        let pools: Vec<&IpPool> = prepared.iter().filter_map(|object| object.pool.as_ref()).collect();
        if !pools.is_empty() {
            // What can't be read overlaps with nothing that could be named.
            let (known, _) = store::all::<IpPoolSpec>(&*datastore).await?;
            let known: Vec<IpPool> = known.into_iter().map(|stored| stored.object).collect();
            check_pools(&pools, &known)?;
        }
        for object in &prepared {
            let done = write_one(&*datastore, object, mode).await?;
            output::text(&format!("{} {done}\n", label(object)))?;
        }
        Ok(())
    })
}

/// Refuses a pool that overlaps with another one: an address could have two owners (Calico refuses it, too).
fn check_pools(pools: &[&IpPool], known: &[IpPool]) -> Result<(), Failure> {
    for (index, pool) in pools.iter().enumerate() {
        // One that is written in the same command counts as it will be.
        let stored = known.iter().filter(|known| !pools.iter().any(|pool| pool.name() == known.name()));
        let others = pools[..index].iter().copied().chain(stored);
        let mut overlapping = others.filter(|other| other.name() != pool.name());
        if let Some(other) = overlapping.find(|other| other.spec.cidr.overlaps(pool.spec.cidr)) {
            let (name, cidr) = (pool.name(), pool.spec.cidr);
            let (other, its) = (other.name(), other.spec.cidr);
            let advice = "choose another range, or delete that pool first";
            return Err(Failure::Failed(format!(
                "IPPool/{name}: spec.cidr: {cidr} overlaps with {its} of IPPool/{other}; {advice}"
            )));
        }
    }
    Ok(())
}

async fn write_one(datastore: &dyn Datastore, object: &Prepared, mode: Mode) -> Result<&'static str, Failure> {
    loop {
        let present = datastore.get(&object.key).await?;
        let value = (object.encode)(present.as_ref())?;
        let written = match (&present, mode) {
            (Some(_), Mode::Create) => return Err(Failure::Failed(format!("{} is there already", label(object)))),
            (None, Mode::Replace) => return Err(Failure::Failed(format!("{} is not there", label(object)))),
            (Some(present), _) if present.value == value => return Ok("unchanged"),
            (Some(present), _) => datastore.update(&object.key, &value, present.revision).await.map(|_| "configured"),
            (None, _) => datastore.create(&object.key, &value).await.map(|_| "created"),
        };
        match written {
            Ok(done) => return Ok(done),
            // Somebody else wrote in between: read again.
            Err(StoreError::Conflict { .. } | StoreError::AlreadyExists { .. } | StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

pub(crate) fn delete(connection: &Connection, args: &DeleteArgs) -> Result<(), Failure> {
    let mut targets: Vec<(String, String)> = Vec::new();
    if let Some(word) = &args.kind {
        if args.names.is_empty() {
            return Err(Failure::Usage(format!("name the {word} to delete")));
        }
        let kind = kinds::find(word)?;
        for name in &args.names {
            targets.push((key_of(&kind, args.namespace.as_deref(), name), format!("{}/{name}", kind.kind)));
        }
    }
    for object in read_files(&args.files, args.namespace.as_deref())? {
        targets.push((object.key.clone(), label(&object)));
    }
    let datastore = store::open(connection)?;
    store::block_on(async {
        let mut missing = Vec::new();
        for (key, label) in targets {
            match datastore.delete(&key, None).await {
                Ok(()) => output::text(&format!("{label} deleted\n"))?,
                // The others go all the same.
                Err(StoreError::NotFound { .. }) => missing.push(format!("{label} is not there")),
                Err(error) => return Err(error.into()),
            }
        }
        store::fail_with(missing)
    })
}

pub(crate) fn get(connection: &Connection, args: &GetArgs) -> Result<(), Failure> {
    let kind = kinds::find(&args.kind)?;
    let datastore = store::open(connection)?;
    let (found, conditions) = store::block_on(async {
        let found = match &args.name {
            Some(name) => {
                let key = key_of(&kind, args.namespace.as_deref(), name);
                let found = datastore.get(&key).await?;
                found
                    .map(|found| vec![found])
                    .ok_or_else(|| Failure::Failed(format!("{}/{name} is not there", kind.kind)))?
            }
            None => {
                let prefix = match (kind.namespaced, args.all_namespaces) {
                    (true, false) => {
                        format!("{}{}/", kind.prefix, args.namespace.as_deref().unwrap_or("default"))
                    }
                    _ => kind.prefix.clone(),
                };
                datastore.list(&prefix).await?.items
            }
        };
        Ok((found, conditions::read(&*datastore, &kind, args.name.as_deref()).await?))
    })?;
    if matches!(args.output, Format::Json | Format::Yaml) {
        let (mut items, problems) = store::sorted_out(&found, |stored| {
            let mut json = (kind.json)(stored)?;
            conditions.add_to(path_in(&kind, stored), &mut json);
            Ok(json)
        });
        match (&args.name, items.pop()) {
            (Some(_), Some(item)) => output::machine(args.output, &item).unwrap_or(Ok(()))?,
            (Some(_), None) => {}
            (None, last) => {
                items.extend(last);
                output::machine(args.output, &list(items)).unwrap_or(Ok(()))?;
            }
        }
        return store::fail_with(problems);
    }
    let (table, problems) = as_table(&kind, &found, &conditions, args);
    output::text(&table)?;
    store::fail_with(problems)
}

/// Objects in the form that `apply` takes back.
fn list(items: Vec<Value>) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": items })
}

/// What of an object's key is its own: the name, in a namespaced kind behind the namespace.
fn path_in<'a>(kind: &Kind, stored: &'a KeyValue) -> &'a str {
    stored.key.strip_prefix(&kind.prefix).unwrap_or(&stored.key)
}

/// The objects that could be read as rows, and why the others could not.
fn as_table(kind: &Kind, found: &[KeyValue], conditions: &Conditions, args: &GetArgs) -> (String, Vec<String>) {
    let wide = args.output == Format::Wide;
    let mut header: Vec<&str> = Vec::new();
    if kind.namespaced && args.all_namespaces {
        header.push("NAMESPACE");
    }
    header.push("NAME");
    header.extend(kind.header);
    let status = conditions::has(kind).then_some(header.len());
    header.extend(status.map(|_| "STATUS"));
    if wide {
        header.extend(kind.wide);
    }
    let (rows, problems) = store::sorted_out(found, |stored| {
        let path = path_in(kind, stored);
        let mut row: Vec<String> = match path.split_once('/') {
            Some((namespace, name)) if args.all_namespaces => vec![namespace.to_owned(), name.to_owned()],
            Some((_, name)) => vec![name.to_owned()],
            None => vec![path.to_owned()],
        };
        row.extend((kind.row)(stored)?);
        if let Some(place) = status {
            row.insert(place, conditions.cell(path));
        }
        row.truncate(header.len());
        Ok(row)
    });
    (output::table(&header, &rows), problems)
}

fn key_of(kind: &Kind, namespace: Option<&str>, name: &str) -> String {
    match kind.namespaced {
        true => format!("{}{}/{name}", kind.prefix, namespace.unwrap_or("default")),
        false => format!("{}{name}", kind.prefix),
    }
}

fn label(object: &Prepared) -> String {
    match &object.namespace {
        Some(namespace) => format!("{}/{namespace}/{}", object.kind, object.name),
        None => format!("{}/{}", object.kind, object.name),
    }
}

/// Reads and checks the objects of files, directories (their .yaml, .yml and .json files by name) and standard input.
fn read_files(paths: &[PathBuf], namespace: Option<&str>) -> Result<Vec<Prepared>, Failure> {
    let mut prepared = Vec::new();
    for path in paths {
        for (shown, text) in read_path(path)? {
            let error = |error: margay_api::DocumentError| Failure::Failed(format!("{shown}: {error}"));
            for document in parse_documents(&text).map_err(error)? {
                prepared.push(kinds::prepare(&document, namespace).map_err(error)?);
            }
        }
    }
    if prepared.is_empty() && !paths.is_empty() {
        let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::Failed(format!("there is no object in {}", shown.join(", "))));
    }
    Ok(prepared)
}

fn read_path(path: &PathBuf) -> Result<Vec<(String, String)>, Failure> {
    let failed =
        |path: &PathBuf, error: std::io::Error| Failure::Failed(format!("cannot read {}: {error}", path.display()));
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| failed(path, error))?;
        return Ok(vec![("standard input".to_owned(), text)]);
    }
    let mut files = vec![path.clone()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|error| failed(path, error))?;
        files = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| {
            file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
        });
        files.sort();
    }
    files
        .into_iter()
        .map(|file| {
            let text = std::fs::read_to_string(&file).map_err(|error| failed(&file, error))?;
            Ok((file.display().to_string(), text))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use margay_datastore::Revision;

    const PREFIX: &str = "/calico/resources/v3/projectcalico.org/";

    fn stored(path: &str, value: &str) -> KeyValue {
        KeyValue { key: format!("{PREFIX}{path}"), value: value.into(), revision: Revision::new(7) }
    }

    #[test]
    fn a_corrupt_value_is_named_and_hides_no_other() {
        let kind = kinds::find("ippools").expect("a kind");
        let good = r#"{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"b"},"spec":{"cidr":"10.65.0.0/16"}}"#;
        let found = [stored("ippools/a", "{"), stored("ippools/b", good)];
        let args = GetArgs {
            kind: "ippools".to_owned(),
            name: None,
            namespace: None,
            all_namespaces: false,
            output: Format::Table,
        };
        let (table, problems) = as_table(&kind, &found, &Conditions::default(), &args);
        assert!(table.contains("b     10.65.0.0/16"), "{table}");
        assert!(table.lines().nth(1).is_some_and(|row| row.ends_with("ok")), "{table}");
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("ippools/a") && problems[0].contains("repair or delete it"), "{problems:?}");
        let (items, problems) = store::sorted_out(&found, &kind.json);
        assert_eq!((items.len(), problems.len()), (1, 1));
        assert_eq!(items[0]["metadata"]["resourceVersion"], "7");
    }

    #[test]
    fn what_get_prints_as_a_list_apply_takes_back() {
        let kind = kinds::find("bgppeers").expect("a kind");
        let peer = r#"{"kind":"BGPPeer","apiVersion":"projectcalico.org/v3","metadata":{"name":"tor","uid":"u","creationTimestamp":"2024-01-01T00:00:00Z"},"spec":{"peerIP":"10.0.0.1","asNumber":65001}}"#;
        let (items, _) = store::sorted_out(&[stored("bgppeers/tor", peer)], &kind.json);
        let yaml = output::yaml(&list(items)).expect("YAML");
        let documents = parse_documents(&yaml).expect("documents");
        let prepared = kinds::prepare(&documents[0], None).expect("a peer");
        assert_eq!(
            (documents.len(), prepared.key.as_str()),
            (1, "/calico/resources/v3/projectcalico.org/bgppeers/tor")
        );
    }

    #[test]
    fn a_pool_that_overlaps_with_another_is_refused() {
        let pool = |name: &str, cidr: &str| -> IpPool {
            margay_api::Object::named(
                name,
                IpPoolSpec { cidr: cidr.parse().expect("a prefix"), ..IpPoolSpec::default() },
            )
        };
        let known = [pool("a", "10.65.0.0/16")];
        let inside = pool("b", "10.65.128.0/24");
        let error = check_pools(&[&inside], &known).expect_err("overlaps");
        assert!(
            error.message().contains("10.65.128.0/24 overlaps with 10.65.0.0/16 of IPPool/a"),
            "{}",
            error.message()
        );
        let moved = pool("a", "10.66.0.0/16");
        assert!(check_pools(&[&moved, &inside], &known).is_ok());
        assert!(check_pools(&[&known[0]], &known).is_ok());
        assert!(check_pools(&[&inside, &pool("c", "10.65.128.0/26")], &[]).is_err());
    }

    #[test]
    fn directories_are_read_by_name_and_nothing_in_them_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_owned();
        assert!(
            read_files(std::slice::from_ref(&path), None).is_err_and(|error| error.message().contains("no object"))
        );
        let namespace = |name: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
        std::fs::write(path.join("2.yaml"), namespace("second")).expect("a file");
        std::fs::write(path.join("1.yml"), namespace("first")).expect("a file");
        std::fs::write(path.join("notes.txt"), "not ours").expect("a file");
        let extra = directory.path().join("2.yaml");
        let names: Vec<String> =
            read_files(&[path, extra], None).expect("read").into_iter().map(|object| object.name).collect();
        assert_eq!(names, ["first", "second", "second"]);
    }
}
