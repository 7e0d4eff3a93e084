//! Whose the files are, and who may read the key.

use std::str::FromStr;

use nix::unistd::{Group, User};

/// `user`, `user:group` or `:group`, by name or number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The user's number, if one was named; else the one who runs this.
    pub(crate) user: Option<u32>,
    /// The group's, likewise.
    pub(crate) group: Option<u32>,
}

impl FromStr for Owner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (user, group) = match text.split_once(':') {
            Some(("", group)) => (None, Some(group)),
            Some((user, group)) => (Some(user), Some(group)),
            None => (Some(text), None),
        };
        let user = user.map(|user| {
            number_of(user, "user", |name| {
                User::from_name(name).map(|user| user.map(|user| user.uid.as_raw()))
            })
        });
        let group = group.map(|group| {
            number_of(group, "group", |name| {
                Group::from_name(name).map(|group| group.map(|group| group.gid.as_raw()))
            })
        });
        Ok(Self {
            user: user.transpose()?,
            group: group.transpose()?,
        })
    }
}

fn number_of(
    text: &str,
    what: &str,
    known: impl Fn(&str) -> nix::Result<Option<u32>>,
) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    match known(text) {
        Ok(Some(number)) => Ok(number),
        Ok(None) => Err(format!("there is no {what} {text:?} on this host")),
        Err(error) => Err(format!("could not look up the {what} {text:?}: {error}")),
    }
}

/// Who may read the files that hold the key, as `chmod` takes it: nobody but owner and group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode(u32);

impl Mode {
    /// Returns the bits.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bits = u32::from_str_radix(text, 8).map_err(|_| {
            format!("{text:?} is no mode: use octal digits, such as 0600, 0640 or 0440")
        })?;
        if bits & 0o007 != 0 {
            return Err(format!(
                "{text} would let everybody read the private key: use a group, such as \
                 --owner root:haproxy --mode 0640"
            ));
        }
        if bits & !0o660 != 0 || bits & 0o400 == 0 {
            return Err(format!(
                "{text} is no mode for a key: use 0600, 0640, 0440 or 0400"
            ));
        }
        Ok(Self(bits))
    }
}
