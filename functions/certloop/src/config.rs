//! Which installation is meant: flags before the environment before `certloop.toml` before the
//! Terraform stack at hand.

use std::cell::OnceCell;
use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

use crate::cli::Options;
use crate::cli_error::CliError;

/// Where what is asked for is found, once it is asked for.
#[derive(Debug)]
pub(crate) struct Config {
    /// Flags, and variables of the environment where there is no flag.
    options: Options,
    file: File,
    directory: PathBuf,
    stack: OnceCell<Stack>,
}

/// `certloop.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    bucket: Option<String>,
    function: Option<String>,
    profile: Option<String>,
    region: Option<String>,
    kms_key_arn: Option<String>,
}

/// What a Terraform stack says of the installation that it made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Stack {
    bucket: Option<String>,
    function: Option<String>,
    function_arn: Option<String>,
    kms_key_arn: Option<String>,
    /// Why it says nothing, where somebody may have expected it to.
    silent: Option<String>,
}

impl Config {
    /// Reads what the working directory has; the stack is asked only when something is missing.
    pub(crate) fn load(options: Options) -> Result<Self, CliError> {
        let directory = env::current_dir()
            .map_err(|error| CliError::failed(format!("the working directory: {error}")))?;
        let home = env::var_os("XDG_CONFIG_HOME").filter(|value| !value.is_empty());
        let home = home.map(PathBuf::from).or_else(|| {
            let home = env::var_os("HOME").filter(|value| !value.is_empty())?;
            Some(PathBuf::from(home).join(".config"))
        });
        let file = read_file(&directory, home.as_deref())?;
        Ok(Self::of(with_environment(options), file, directory))
    }

    fn of(options: Options, file: File, directory: PathBuf) -> Self {
        let given = |value: Option<String>| value.filter(|text| !text.is_empty());
        Self {
            options: Options {
                bucket: given(options.bucket),
                function: given(options.function),
                profile: given(options.profile),
                region: given(options.region),
                kms_key_arn: given(options.kms_key_arn),
                ..options
            },
            file,
            directory,
            stack: OnceCell::new(),
        }
    }

    /// Refuses a profile that the files of AWS do not have.
    ///
    /// The SDK would say no more than that there are no credentials.
    pub(crate) fn check_profile(&self) -> Result<(), CliError> {
        let Some(profile) = self.profile().filter(|profile| *profile != "default") else {
            return Ok(());
        };
        let files = profile_files();
        let texts = files
            .iter()
            .filter_map(|file| fs::read_to_string(file).ok());
        if texts.into_iter().any(|text| has_profile(&text, profile)) {
            return Ok(());
        }
        let files: Vec<String> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        Err(CliError::misused(format!(
            "there is no AWS profile {profile} in {}",
            files.join(" or ")
        ))
        .try_next("another --profile or AWS_PROFILE; aws configure list-profiles names yours"))
    }

    /// Returns the bucket.
    pub(crate) fn bucket(&self) -> Result<String, CliError> {
        let named = |bucket: &Option<String>, function: &Option<String>| match (bucket, function) {
            (Some(bucket), _) => Some(Ok(bucket.clone())),
            // Half of one installation and half of another would be written here and followed
            // there.
            (None, Some(function)) => Some(Err(half_named("function", function, "bucket"))),
            (None, None) => None,
        };
        named(&self.options.bucket, &self.options.function)
            .or_else(|| named(&self.file.bucket, &self.file.function))
            .or_else(|| self.stack().bucket.clone().map(Ok))
            .unwrap_or_else(|| Err(self.missing("bucket", "--bucket NAME", "CERTLOOP_BUCKET")))
    }

    /// Returns the name or ARN of the renewing function.
    pub(crate) fn function(&self) -> Result<String, CliError> {
        let named = |function: &Option<String>, bucket: &Option<String>| match (function, bucket) {
            (Some(function), _) => Some(Ok(function.clone())),
            (None, Some(bucket)) => Some(Err(half_named("bucket", bucket, "function"))),
            (None, None) => None,
        };
        let found = named(&self.options.function, &self.options.bucket)
            .or_else(|| named(&self.file.function, &self.file.bucket))
            .or_else(|| self.stack().function.clone().map(Ok))
            .unwrap_or_else(|| {
                Err(self.missing("function", "--function NAME", "CERTLOOP_FUNCTION"))
            });
        found.map_err(|cli_error| match self.local() {
            // Only a command that cannot do without the function asks for it here.
            true => cli_error,
            false => cli_error
                .try_next("--local, which does it in this process with your own credentials"),
        })
    }

    /// Returns the profile to sign in with, or none for the SDK's own choice.
    pub(crate) fn profile(&self) -> Option<&str> {
        let profile = self.options.profile.as_ref();
        profile.or(self.file.profile.as_ref()).map(String::as_str)
    }

    /// Returns the region, or none for the SDK's own choice: that of an ARN that was already found
    /// where none is named.
    pub(crate) fn region(&self) -> Option<String> {
        let known = self.options.region.clone().or(self.file.region.clone());
        known.or_else(|| {
            let named = self.options.function.as_ref();
            let named = named.or(self.file.function.as_ref());
            let stack = self
                .stack
                .get()
                .and_then(|stack| stack.function_arn.as_ref());
            named.or(stack).and_then(|arn| region_of(arn))
        })
    }

    /// Returns the KMS key that encrypts accounts and private keys, if one is known.
    pub(crate) fn kms_key_arn(&self) -> Option<String> {
        let known = self.options.kms_key_arn.clone();
        let known = known.or(self.file.kms_key_arn.clone());
        known.or_else(|| self.stack().kms_key_arn.clone())
    }

    /// Whether this process does the work of the function.
    pub(crate) fn local(&self) -> bool {
        self.options.local
    }

    fn stack(&self) -> &Stack {
        self.stack.get_or_init(|| ask_terraform(&self.directory))
    }

    fn missing(&self, what: &str, flag: &str, variable: &str) -> CliError {
        let cli_error = CliError::misused(format!("which {what}? None is named"))
            .try_next(format!("{flag}, or the environment variable {variable}"))
            .try_next(format!(
                "{what} = \"...\" in {NAME} here, in a directory above, or in ~/.config"
            ))
            .try_next("run it where the Terraform stack of the installation was applied");
        match &self.stack().silent {
            Some(why) => CliError {
                what: format!("{} ({why})", cli_error.what),
                ..cli_error
            },
            None => cli_error,
        }
    }
}

/// Returns the options, with the environment's where none was typed.
fn with_environment(options: Options) -> Options {
    let or = |typed: Option<String>, name: &str| typed.or_else(|| env::var(name).ok());
    Options {
        bucket: or(options.bucket, "CERTLOOP_BUCKET"),
        function: or(options.function, "CERTLOOP_FUNCTION"),
        profile: or(options.profile, "AWS_PROFILE"),
        region: or(options.region, "AWS_REGION"),
        kms_key_arn: or(options.kms_key_arn, "CERTLOOP_KMS_KEY_ARN"),
        ..options
    }
}

/// Returns the files in which profiles are, as the SDK finds them.
fn profile_files() -> Vec<PathBuf> {
    let of = |variable: &str, usual: &str| {
        let named = env::var_os(variable).filter(|value| !value.is_empty());
        named.map(PathBuf::from).or_else(|| {
            let home = env::var_os("HOME").filter(|value| !value.is_empty())?;
            Some(PathBuf::from(home).join(usual))
        })
    };
    let files = [
        of("AWS_CONFIG_FILE", ".aws/config"),
        of("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
    ];
    files.into_iter().flatten().collect()
}

/// Whether a file of profiles has this one: `[profile name]`, in the credentials file `[name]`.
fn has_profile(text: &str, profile: &str) -> bool {
    let headings = text.lines().filter_map(|line| {
        let (heading, _) = line.trim().strip_prefix('[')?.split_once(']')?;
        Some(heading.trim())
    });
    headings.into_iter().any(|heading| {
        let named = heading.strip_prefix("profile").map_or(heading, str::trim);
        heading == profile || named == profile
    })
}

/// Makes the error of an installation of which one half is named, and the other is needed.
fn half_named(what: &str, name: &str, other: &str) -> CliError {
    let (flag, variable) = (
        format!("--{other}"),
        format!("CERTLOOP_{}", other.to_uppercase()),
    );
    CliError::misused(format!(
        "which {other}? The {what} {name} is named, and a {other} that is found elsewhere may be \
         of another installation"
    ))
    .try_next(format!(
        "{flag} NAME, or the environment variable {variable}"
    ))
    .try_next(format!("{other} = \"...\" beside it in {NAME}"))
}

/// Returns the region that an ARN names.
fn region_of(arn: &str) -> Option<String> {
    let mut parts = arn.split(':');
    let is_arn = parts.next() == Some("arn");
    parts.nth(2).filter(|_| is_arn).map(str::to_owned)
}

/// Reads the nearest file going up, else the one of the user's own.
fn read_file(directory: &Path, home: Option<&Path>) -> Result<File, CliError> {
    let above = directory.ancestors().map(|above| above.join(NAME));
    for path in above.chain(home.map(|home| home.join(NAME))) {
        if is_anybodys(&path) {
            continue;
        }
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if is_absence(&error) => continue,
            Err(error) => return Err(CliError::failed(format!("{}: {error}", path.display()))),
        };
        return toml::from_str(&text).map_err(|error| {
            let reason = error.to_string();
            CliError::misused(format!("{}: {}", path.display(), reason.trim_end()))
                .try_next("understood are bucket, function, profile, region and kms_key_arn")
        });
    }
    Ok(File::default())
}

/// Whether somebody else than root and us may have written a file: one in a directory that
/// everybody may write to says nothing.
fn is_anybodys(path: &Path) -> bool {
    let Ok(file) = fs::metadata(path) else {
        return false;
    };
    let ours = nix::unistd::Uid::effective().as_raw();
    (file.uid() != 0 && file.uid() != ours) || file.mode() & 0o002 != 0
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Asks the stack in this directory for its outputs, if it was initialised here.
fn ask_terraform(directory: &Path) -> Stack {
    let silent = |why: String| Stack {
        silent: Some(why),
        ..Stack::default()
    };
    if !directory.join(".terraform").is_dir() {
        return Stack::default();
    }
    let asked = Command::new("terraform")
        .args(["output", "-json"])
        .current_dir(directory)
        .stdin(Stdio::null())
        .output();
    let answer = match asked {
        Ok(answer) if answer.status.success() => answer,
        Ok(answer) => {
            let said = String::from_utf8_lossy(&answer.stderr);
            let line = said.lines().find(|line| line.contains("Error"));
            let line = line.unwrap_or("it failed").trim_matches(['│', ' ']);
            return silent(format!("terraform output: {line}"));
        }
        Err(error) => return silent(format!("terraform cannot be run: {error}")),
    };
    match serde_json::from_slice::<Value>(&answer.stdout) {
        Ok(outputs) => read_outputs(&outputs),
        Err(error) => silent(format!("terraform output: {error}")),
    }
}

/// Reads the outputs of our module: those of the stack itself, or of the one output that holds them
/// all.
fn read_outputs(outputs: &Value) -> Stack {
    let all: serde_json::Map<String, Value> = (outputs.as_object().into_iter().flatten())
        .filter_map(|(name, output)| Some((name.clone(), output.get("value")?.clone())))
        .collect();
    let is_ours = |outputs: &serde_json::Map<String, Value>| {
        let has = |name| outputs.get(name).is_some_and(Value::is_string);
        has("bucket") && has("renew_function")
    };
    let nested: Vec<_> = (all.values())
        .filter_map(Value::as_object)
        .filter(|outputs| is_ours(outputs))
        .collect();
    let ours = match nested.as_slice() {
        _ if is_ours(&all) => &all,
        [one] => one,
        [] => &all,
        _ => {
            let names = (all.iter())
                .filter(|(_, value)| value.as_object().is_some_and(is_ours))
                .map(|(name, _)| name.as_str());
            let names = names.collect::<Vec<_>>().join(", ");
            return Stack {
                silent: Some(format!("the stack has several installations: {names}")),
                ..Stack::default()
            };
        }
    };
    let text = |name: &str| ours.get(name).and_then(Value::as_str).map(str::to_owned);
    let silent = !is_ours(ours);
    Stack {
        bucket: text("bucket"),
        function: text("renew_function"),
        function_arn: text("renew_function_arn"),
        kms_key_arn: text("kms_key_arn"),
        silent: silent.then(|| {
            "the stack here has no outputs bucket and renew_function; pass the module's on"
                .to_owned()
        }),
    }
}

const NAME: &str = "certloop.toml";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options(bucket: Option<&str>) -> Options {
        Options {
            bucket: bucket.map(str::to_owned),
            ..Options::default()
        }
    }

    #[test]
    fn what_was_typed_comes_before_the_file() {
        let file = || File {
            bucket: Some("of-the-file".to_owned()),
            ..File::default()
        };
        let of = |typed| Config::of(options(typed), file(), PathBuf::new()).bucket();
        assert_eq!(of(Some("typed")).unwrap(), "typed");
        assert_eq!(of(None).unwrap(), "of-the-file");
        assert_eq!(of(Some("")).unwrap(), "of-the-file");
    }

    #[test]
    fn a_profile_is_found_by_its_heading() {
        let config =
            "[default]\nregion = x\n[profile shop] # ours\n [ profile  blog ]\n[sso-session ops]\n";
        for (profile, is_there) in [
            ("shop", true),
            ("blog", true),
            ("default", true),
            ("ops", false),
            ("sho", false),
        ] {
            assert_eq!(has_profile(config, profile), is_there, "{profile}");
        }
        assert!(has_profile("[shop]\naws_access_key_id = x\n", "shop"));
    }

    #[test]
    fn one_installation_is_not_put_together_from_two() {
        let file = || File {
            function: Some("of-the-file".to_owned()),
            ..File::default()
        };
        let typed = Config::of(options(Some("typed")), file(), PathBuf::new());
        assert_eq!(typed.bucket().unwrap(), "typed");
        let cli_error = typed.function().unwrap_err().to_string();
        assert!(
            cli_error.contains("bucket typed") && cli_error.contains("--function"),
            "{cli_error}"
        );
        let half = Config::of(options(None), file(), PathBuf::new());
        assert_eq!(half.function().unwrap(), "of-the-file");
        assert!(half.bucket().unwrap_err().to_string().contains("--bucket"));
    }

    #[test]
    fn what_is_missing_is_said_with_the_ways_to_give_it() {
        let nowhere = tempfile::tempdir().unwrap();
        let config = Config::of(options(None), File::default(), nowhere.path().to_owned());
        let cli_error = config.function().unwrap_err().to_string();
        for way in [
            "--function",
            "CERTLOOP_FUNCTION",
            "certloop.toml",
            "Terraform",
            "--local",
        ] {
            assert!(cli_error.contains(way), "{way} is not in {cli_error}");
        }
    }

    #[test]
    fn the_nearest_file_counts_and_its_unknown_keys_are_refused() {
        let above = tempfile::tempdir().unwrap();
        let below = above.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        assert_eq!(read_file(&below, None).unwrap(), File::default());
        fs::write(above.path().join(NAME), "bucket = \"far\"\n").unwrap();
        assert_eq!(read_file(&below, None).unwrap().bucket.unwrap(), "far");
        fs::write(above.path().join("a").join(NAME), "bukket = \"near\"\n").unwrap();
        let cli_error = read_file(&below, None).unwrap_err().to_string();
        assert!(
            cli_error.contains("bukket") && cli_error.contains("a/certloop.toml"),
            "{cli_error}"
        );
    }

    #[test]
    fn the_users_own_file_is_the_last() {
        let (here, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(home.path().join(NAME), "region = \"eu-west-1\"\n").unwrap();
        let file = read_file(here.path(), Some(home.path())).unwrap();
        assert_eq!(file.region.unwrap(), "eu-west-1");
    }

    #[test]
    fn the_outputs_of_the_stack_or_of_a_module_in_it_are_read() {
        let flat = json!({
            "bucket": {"value": "b", "type": "string"},
            "renew_function": {"value": "f"},
            "renew_function_arn": {"value": "arn:aws:lambda:eu-west-1:123456789012:function:f"},
            "kms_key_arn": {"value": null},
        });
        let stack = read_outputs(&flat);
        assert_eq!(
            (stack.bucket.as_deref(), stack.function.as_deref()),
            (Some("b"), Some("f"))
        );
        assert_eq!(
            region_of(&stack.function_arn.unwrap()).unwrap(),
            "eu-west-1"
        );
        let module = json!({"bucket": "b", "renew_function": "f"});
        let nested = json!({"certloop": {"value": module}, "other": {"value": {"bucket": "x"}}});
        assert_eq!(read_outputs(&nested).bucket.as_deref(), Some("b"));
        let twice = json!({"one": {"value": module}, "two": {"value": module}});
        let stack = read_outputs(&twice);
        assert_eq!(stack.bucket, None);
        assert!(stack.silent.unwrap().contains("one, two"));
    }

    #[test]
    fn a_function_named_by_its_arn_names_the_region() {
        let options = Options {
            function: Some("arn:aws:lambda:eu-north-1:123456789012:function:f".to_owned()),
            ..Options::default()
        };
        let config = Config::of(options, File::default(), PathBuf::new());
        assert_eq!(config.region().as_deref(), Some("eu-north-1"));
    }
}
