//! `apply`, `create`, `replace`, `delete` and `get`.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use margay_api::parse_documents;
use margay_datastore::{Datastore, KeyValue, StoreError};
use serde_json::{Value, json};

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
        for object in &prepared {
            let done = write_one(&*datastore, object, mode).await?;
            output::text(&format!("{} {done}\n", label(object)))?;
        }
        Ok(())
    })
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
        for (key, label) in targets {
            match datastore.delete(&key, None).await {
                Ok(()) => output::text(&format!("{label} deleted\n"))?,
                Err(StoreError::NotFound { .. }) => return Err(Failure::Failed(format!("{label} is not there"))),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    })
}

pub(crate) fn get(connection: &Connection, args: &GetArgs) -> Result<(), Failure> {
    let kind = kinds::find(&args.kind)?;
    let datastore = store::open(connection)?;
    let found = store::block_on(async {
        match &args.name {
            Some(name) => {
                let key = key_of(&kind, args.namespace.as_deref(), name);
                let found = datastore.get(&key).await?;
                found
                    .map(|found| vec![found])
                    .ok_or_else(|| Failure::Failed(format!("{}/{name} is not there", kind.kind)))
            }
            None => {
                let prefix = match (kind.namespaced, args.all_namespaces) {
                    (true, false) => {
                        format!("{}{}/", kind.prefix(), args.namespace.as_deref().unwrap_or("default"))
                    }
                    _ => kind.prefix(),
                };
                Ok(datastore.list(&prefix).await?.items)
            }
        }
    })?;
    if matches!(args.output, Format::Json | Format::Yaml) {
        let value = as_value(&kind, &found, args.name.is_some())?;
        return output::machine(args.output, &value).unwrap_or(Ok(()));
    }
    output::text(&as_table(&kind, &found, args)?)
}

fn as_value(kind: &Kind, found: &[KeyValue], single: bool) -> Result<Value, Failure> {
    let mut items = found.iter().map(|stored| (kind.json)(stored)).collect::<Result<Vec<_>, _>>()?;
    if single && items.len() == 1 {
        return Ok(items.remove(0));
    }
    Ok(json!({ "apiVersion": "projectcalico.org/v3", "kind": format!("{}List", kind.kind), "items": items }))
}

fn as_table(kind: &Kind, found: &[KeyValue], args: &GetArgs) -> Result<String, Failure> {
    let wide = args.output == Format::Wide;
    let mut header: Vec<&str> = Vec::new();
    if kind.namespaced && args.all_namespaces {
        header.push("NAMESPACE");
    }
    header.push("NAME");
    header.extend(kind.header);
    if wide {
        header.extend(kind.wide);
    }
    let mut rows = Vec::new();
    for stored in found {
        let path = stored.key.strip_prefix(&kind.prefix()).unwrap_or(&stored.key);
        let mut row: Vec<String> = match path.split_once('/') {
            Some((namespace, name)) if args.all_namespaces => vec![namespace.to_owned(), name.to_owned()],
            Some((_, name)) => vec![name.to_owned()],
            None => vec![path.to_owned()],
        };
        row.extend((kind.row)(stored)?);
        row.truncate(header.len());
        rows.push(row);
    }
    Ok(output::table(&header, &rows))
}

fn key_of(kind: &Kind, namespace: Option<&str>, name: &str) -> String {
    match kind.namespaced {
        true => format!("{}{}/{name}", kind.prefix(), namespace.unwrap_or("default")),
        false => format!("{}{name}", kind.prefix()),
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
