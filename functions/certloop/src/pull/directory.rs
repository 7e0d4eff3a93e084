//! The directory of the files: sets written aside, and one link that says which of them counts.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{
    DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, symlink,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

use certificates::values::names::CertificateName;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::error::PullError;
use super::files::{Facts, NAMES, Pems};
use super::options::PullOptions;
use super::standing::Standing;

/// The directory, for as long as nobody else may work on it.
pub(super) struct Directory {
    path: PathBuf,
    inner: PathBuf,
    _lock: File,
}

/// What is under one of the five names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Our link into the set that counts.
    Linked,
    /// Nothing.
    Empty,
    /// A file that was there before us, or that was put over our link.
    File,
}

impl Directory {
    /// Makes what is missing of it and keeps others away from it.
    pub(super) fn open(path: &Path) -> Result<Self, PullError> {
        let path = std::path::absolute(path)
            .map_err(|source| PullError::files("find the directory", path, source))?;
        make_directory(&path)?;
        let mode = act("look at", &path, || Ok(fs::metadata(&path)?.mode()))?;
        if mode & 0o1002 == 0o0002 {
            return Err(PullError::Open { path });
        }
        let inner = path.join(INNER);
        if let Some(found) = found(&inner)?
            && !found.is_dir()
        {
            return Err(foreign(inner, &found));
        }
        make_directory(&inner)?;
        let lock = inner.join("lock");
        let file = act("open", &lock, || {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false);
            options.mode(0o600).open(&lock)
        })?;
        // A run that is ending, or a process it is just starting, holds it for an instant.
        for _ in 0..LOCK_ATTEMPTS {
            match file.try_lock() {
                Ok(()) => {
                    return Ok(Self {
                        path,
                        inner,
                        _lock: file,
                    });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_WAIT),
                Err(TryLockError::Error(source)) => {
                    return Err(PullError::files("lock", &lock, source));
                }
            }
        }
        Err(PullError::Busy { path })
    }

    /// Returns where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the five names lead to these contents; returns whether it changed anything.
    pub(super) fn put(&self, pems: &Pems, options: &PullOptions) -> Result<bool, PullError> {
        let places = self.places()?;
        let linked = places.iter().all(|(_, place)| *place == Place::Linked);
        let current = self.current()?;
        let holds = match &current {
            Some(current) => self.holds(current, pems, options)?,
            None => false,
        };
        if linked && holds {
            return Ok(false);
        }
        self.tidy()?;
        let before = match current {
            Some(current) => Some(current),
            None => self.adopt(&places)?,
        };
        if options.command.is_some() || self.owed()?.is_some() {
            self.owe(before.as_deref())?;
        }
        if let Some(before) = &before {
            // The set that still counts, whole, before another one does.
            for (name, place) in &places {
                if *place == Place::File && self.inner.join(before).join(name).exists() {
                    self.link(name)?;
                }
            }
        }
        if !holds {
            let version = self.write(pems, options)?;
            self.go_to(&version)?;
        }
        for (name, place) in self.places()? {
            if place != Place::Linked {
                self.link(name)?;
            }
        }
        sync(&self.path)?;
        Ok(true)
    }

    /// Returns the set that a failing command may go back to: the last one with which it
    /// succeeded. `None` where no command is owed.
    pub(super) fn owed(&self) -> Result<Option<Option<String>>, PullError> {
        let path = self.inner.join(OWED);
        match fs::read_to_string(&path) {
            Ok(before) => {
                let before = before.trim();
                Ok(Some(is_plain(before).then(|| before.to_owned())))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(PullError::files("read", &path, source)),
        }
    }

    /// Notes that the command has succeeded.
    pub(super) fn settle(&self) -> Result<(), PullError> {
        remove(&self.inner.join(OWED))?;
        sync(&self.inner)
    }

    /// Returns a set other than the one that counts, if it can still be served.
    pub(super) fn facts_of<'v>(
        &self,
        version: Option<&'v str>,
        now: OffsetDateTime,
    ) -> Option<(&'v str, Facts)> {
        let version = version?;
        if self.current().ok()?.as_deref() == Some(version) {
            return None;
        }
        let standing = Standing::read(&self.inner.join(version))?;
        let leaf = standing.leaf();
        (now <= leaf.not_after).then(|| (version, Facts::of(leaf)))
    }

    /// Returns what the set that counts holds; `None` where certloop wrote none, or where no
    /// certificate can be read.
    pub(super) fn standing(&self) -> Option<Standing> {
        let version = self.current().ok()??;
        if version.starts_with(BEFORE) {
            return None;
        }
        Standing::read(&self.inner.join(version))
    }

    /// Returns the name of the certificate that the directory is for; `None` where no run noted it.
    pub(super) fn noted_name(&self) -> Result<Option<CertificateName>, PullError> {
        let path = self.inner.join(NAME);
        match fs::read_to_string(&path) {
            Ok(name) => Ok(name.trim().parse().ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(PullError::files("read", &path, source)),
        }
    }

    /// Notes the name of the certificate that the directory is for, before a set of it counts.
    pub(super) fn note_name(&self, name: &CertificateName) -> Result<(), PullError> {
        match self.noted_name()?.as_ref() == Some(name) {
            true => Ok(()),
            false => self.write_note(NAME, name.as_str()),
        }
    }

    /// Returns the set that counts.
    fn current(&self) -> Result<Option<String>, PullError> {
        let path = self.inner.join(CURRENT);
        match found(&path)? {
            None => Ok(None),
            Some(link) if link.is_symlink() => {
                let to = act("read", &path, || fs::read_link(&path))?;
                Ok(to.to_str().filter(|to| is_plain(to)).map(str::to_owned))
            }
            Some(other) => Err(foreign(path, &other)),
        }
    }

    /// Whether a set is what would be written, to the last byte and bit.
    fn holds(&self, version: &str, pems: &Pems, options: &PullOptions) -> Result<bool, PullError> {
        for (name, content, secret) in pems.files() {
            let path = self.inner.join(version).join(name);
            let read = || -> io::Result<bool> {
                let metadata = fs::metadata(&path)?;
                let owned = options.owner.is_none_or(|owner| {
                    owner.user.is_none_or(|user| metadata.uid() == user)
                        && owner.group.is_none_or(|group| metadata.gid() == group)
                });
                let same = metadata.is_file()
                    && metadata.mode() & 0o7777 == mode(secret, options)
                    && metadata.len() == content.len() as u64;
                Ok(owned && same && *Zeroizing::new(fs::read(&path)?) == *content.as_bytes())
            };
            match read() {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    return Ok(false);
                }
                Err(source) => return Err(PullError::files("read", &path, source)),
            }
        }
        Ok(true)
    }

    /// Writes a set aside and returns what it is called.
    fn write(&self, pems: &Pems, options: &PullOptions) -> Result<String, PullError> {
        let version = self.make_set(&pems.serial)?;
        let set = self.inner.join(&version);
        for (name, content, secret) in pems.files() {
            let path = set.join(name);
            act("write", &path, || {
                // Nobody else may read it before its owner and mode are set.
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path)?;
                file.write_all(content.as_bytes())?;
                if let Some(owner) = options.owner {
                    fchown(&file, owner.user, owner.group)?;
                }
                file.set_permissions(Permissions::from_mode(mode(secret, options)))?;
                file.sync_all()
            })?;
        }
        sync(&set)?;
        Ok(version)
    }

    /// Makes a set of the files that were there before us, so that they can come back, and so that
    /// one rename leaves them.
    fn adopt(&self, places: &[(&'static str, Place)]) -> Result<Option<String>, PullError> {
        let files = places.iter().filter(|(_, place)| *place == Place::File);
        let files: Vec<_> = files.map(|(name, _)| *name).collect();
        if files.is_empty() {
            return Ok(None);
        }
        let version = self.make_set(BEFORE)?;
        let set = self.inner.join(&version);
        for name in files {
            let (from, to) = (self.path.join(name), set.join(name));
            act("link", &from, || fs::hard_link(&from, &to))?;
        }
        sync(&set)?;
        self.go_to(&version)?;
        Ok(Some(version))
    }

    fn make_set(&self, called: &str) -> Result<String, PullError> {
        let numbers = (2..).map(|number| format!("{called}-{number}"));
        let free = std::iter::once(called.to_owned())
            .chain(numbers)
            .find(|version| !self.inner.join(version).exists())
            .unwrap_or_default();
        make_directory(&self.inner.join(&free))?;
        Ok(free)
    }

    /// Makes a set count: the one rename that readers see.
    pub(super) fn go_to(&self, version: &str) -> Result<(), PullError> {
        sync(&self.inner)?;
        self.put_link(Path::new(version), &self.inner.join(CURRENT))?;
        sync(&self.inner)
    }

    /// Has a name lead into the set that counts.
    fn link(&self, name: &str) -> Result<(), PullError> {
        self.put_link(&leads_to(name), &self.path.join(name))
    }

    fn put_link(&self, to: &Path, path: &Path) -> Result<(), PullError> {
        let new = self.inner.join("link.new");
        remove(&new)?;
        act("write", &new, || symlink(to, &new))?;
        act("write", path, || fs::rename(&new, path))
    }

    /// Notes that the command has to succeed. Where that is noted already, the set to go back to
    /// stays: the command succeeded with nothing since.
    fn owe(&self, before: Option<&str>) -> Result<(), PullError> {
        if let Some(noted) = self.owed()?
            && noted.is_none_or(|noted| self.inner.join(noted).is_dir())
        {
            return Ok(());
        }
        self.write_note(OWED, before.unwrap_or_default())
    }

    /// Writes a small file that is there whole, or as it was before.
    fn write_note(&self, called: &str, text: &str) -> Result<(), PullError> {
        let new = self.inner.join(format!("{called}.new"));
        let path = self.inner.join(called);
        act("write", &new, || {
            let mut file = File::create(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })?;
        act("write", &path, || fs::rename(&new, &path))?;
        sync(&self.inner)
    }

    /// Removes the sets that nothing goes back to.
    fn tidy(&self) -> Result<(), PullError> {
        let kept = [self.current()?, self.owed()?.flatten()];
        let listed = act("list", &self.inner, || {
            fs::read_dir(&self.inner)?.collect::<io::Result<Vec<_>>>()
        })?;
        for entry in listed {
            let is_kept = |kept: &Option<String>| {
                kept.as_ref()
                    .is_some_and(|kept| entry.file_name() == kept.as_str())
            };
            let path = entry.path();
            let is_set = act("look at", &path, || Ok(entry.file_type()?.is_dir()))?;
            if is_set && !kept.iter().any(is_kept) {
                act("remove", &path, || fs::remove_dir_all(&path))?;
            }
        }
        Ok(())
    }

    fn places(&self) -> Result<Vec<(&'static str, Place)>, PullError> {
        let place = |name: &'static str| {
            let path = self.path.join(name);
            let place = match found(&path)? {
                None => Place::Empty,
                Some(file) if file.is_file() => Place::File,
                Some(link) if link.is_symlink() => {
                    let to = act("read", &path, || fs::read_link(&path))?;
                    if to != leads_to(name) {
                        return Err(foreign(path, &link));
                    }
                    Place::Linked
                }
                Some(other) => return Err(foreign(path, &other)),
            };
            Ok((name, place))
        };
        NAMES.into_iter().map(place).collect()
    }
}

/// Where one of the five names leads, as a relative path: the directory may be mounted
/// elsewhere.
fn leads_to(name: &str) -> PathBuf {
    [INNER, CURRENT, name].iter().collect()
}

/// Whether a text can be the name of a set: nothing that leads out of the directory.
fn is_plain(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.is_empty()
        && ![CURRENT, OWED, NAME].contains(&name)
}

fn mode(secret: bool, options: &PullOptions) -> u32 {
    match secret {
        true => options.mode.bits(),
        false => 0o644,
    }
}

/// Returns what is at a path, links not followed.
fn found(path: &Path) -> Result<Option<fs::Metadata>, PullError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PullError::files("look at", path, source)),
    }
}

fn foreign(path: PathBuf, found: &fs::Metadata) -> PullError {
    let what = if found.is_symlink() {
        match fs::read_link(&path) {
            Ok(to) => format!("a link to {}", to.display()),
            Err(_) => "a link".to_owned(),
        }
    } else if found.is_dir() {
        "a directory".to_owned()
    } else {
        "there".to_owned()
    };
    PullError::Foreign { path, what }
}

/// Makes a directory everybody may enter, if it is missing: what is secret in it says so itself.
fn make_directory(path: &Path) -> Result<(), PullError> {
    if path.is_dir() {
        return Ok(());
    }
    act("make", path, || {
        DirBuilder::new().recursive(true).mode(0o755).create(path)?;
        // The umask may have taken bits away.
        fs::set_permissions(path, Permissions::from_mode(0o755))
    })
}

fn remove(path: &Path) -> Result<(), PullError> {
    act("remove", path, || match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    })
}

/// Has the disk hold what was last renamed, made or removed in a directory.
fn sync(path: &Path) -> Result<(), PullError> {
    act("sync", path, || File::open(path)?.sync_all())
}

/// Does one thing to the disk, and says which if it fails. In tests the process may end right
/// before or after it.
fn act<T>(
    doing: &'static str,
    path: &Path,
    act: impl FnOnce() -> io::Result<T>,
) -> Result<T, PullError> {
    #[cfg(test)]
    super::tests::may_die(path)?;
    act().map_err(|source| PullError::files(doing, path, source))
}

const LOCK_ATTEMPTS: u32 = 50;
const LOCK_WAIT: Duration = Duration::from_millis(20);
const INNER: &str = ".certloop";
/// The link to the set that counts.
const CURRENT: &str = "current";
/// There while a command has to succeed; holds the set to go back to.
const OWED: &str = "owed";
/// Holds the name of the certificate that the directory is for.
const NAME: &str = "name";
/// What was there before us.
const BEFORE: &str = "before";
