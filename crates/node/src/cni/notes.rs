//! Which attachments this node may hold addresses for, noted on its own disk before any is asked for.
//!
//! A crash between the write of a handle and that of a block leaves a handle that holds nothing: no address leads to it,
//! and it does not say whose it is. By the notes GC finds those of this node, and no other node's.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use margay_local_api::{ApiError, Attachment};

use super::endpoint;

/// The longest name of a file (NAME_MAX).
const LONGEST: usize = 255;

/// A folder with a file for each attachment, named by its handle.
#[derive(Debug, Clone)]
pub(crate) struct Notes {
    directory: Arc<PathBuf>,
}

impl Notes {
    pub(crate) fn new(directory: PathBuf) -> Notes {
        Notes { directory: Arc::new(directory) }
    }

    /// Notes an attachment that is about to get addresses.
    pub(super) fn write(&self, attachment: &Attachment) -> Result<(), ApiError> {
        let handle = endpoint::handle(attachment);
        if handle.contains('/') || handle.len() > LONGEST {
            let details = format!("'{handle}' is too long or has a '/'");
            return Err(ApiError::new(
                ApiError::BAD_REQUEST,
                "network, container and interface make no handle",
                details,
            ));
        }
        let path = self.directory.join(handle);
        let note = serde_json::to_vec(attachment).unwrap_or_default();
        let written = std::fs::create_dir_all(&*self.directory).and_then(|()| std::fs::write(&path, note));
        written.map_err(|error| {
            let message = format!("cannot write {}", path.display());
            ApiError::new(ApiError::INTERNAL, message, format!("{error}; see to the folder of MARGAY_STATE"))
        })
    }

    /// Forgets an attachment whose addresses are freed.
    pub(super) fn remove(&self, attachment: &Attachment) {
        let path = self.directory.join(endpoint::handle(attachment));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::info!(%error, path = %path.display(), "a note stays; GC frees what is free already");
            }
            _ => {}
        }
    }

    /// The noted attachments to a network.
    pub(super) fn of_network(&self, network: &str) -> Vec<Attachment> {
        let Ok(files) = std::fs::read_dir(&*self.directory) else { return Vec::new() };
        let notes = files.flatten().filter_map(|file| std::fs::read(file.path()).ok());
        let attachments = notes.filter_map(|note| serde_json::from_slice::<Attachment>(&note).ok());
        attachments.filter(|attachment| attachment.network == network).collect()
    }
}
