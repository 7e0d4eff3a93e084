//! What can be typed: commands, arguments and their help.

use std::path::PathBuf;
use std::time::Duration;

use certificates::values::names::CertificateName;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli_error::EXIT_CODES;
use crate::pull::owner::{Mode, Owner};

/// Show and change the certificates that certloop keeps on AWS load balancers.
#[derive(Debug, Parser)]
#[command(
    name = "certloop",
    version,
    after_help = EXIT_CODES,
    max_term_width = 100,
    propagate_version = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
///
/// `Config` reads the variables of the environment: a variable that clap reads is in every usage
/// line as if somebody had typed it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Installation")]
pub(crate) struct Options {
    /// Bucket with settings, documents and states [env: CERTLOOP_BUCKET]
    #[arg(long, global = true)]
    pub(crate) bucket: Option<String>,
    /// Name or ARN of the renewing function [env: CERTLOOP_FUNCTION]
    #[arg(long, global = true)]
    pub(crate) function: Option<String>,
    /// Profile of ~/.aws/config to sign in with [env: AWS_PROFILE]
    #[arg(long, global = true)]
    pub(crate) profile: Option<String>,
    /// Region of bucket and function [env: AWS_REGION]
    #[arg(long, global = true)]
    pub(crate) region: Option<String>,
    /// Do the work in this process with your own credentials, without the function
    #[arg(long, global = true)]
    pub(crate) local: bool,
    /// With --local: the KMS key that encrypts accounts and private keys in the bucket
    /// [env: CERTLOOP_KMS_KEY_ARN]
    #[arg(long, global = true, value_name = "ARN")]
    pub(crate) kms_key_arn: Option<String>,
    /// Print the answer as JSON
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show whether everything is fine, and what to do where it is not
    Status(Status),
    /// Add a certificate: write its document
    Add(Add),
    /// Change a certificate's document, in an editor or by --set
    Edit(Edit),
    /// Stop orders for a certificate, and keep it served
    Pause(Pause),
    /// Order again for a paused certificate
    Resume(Pause),
    /// Take a certificate off all its targets and delete it
    Remove(Remove),
    /// Write a document through the function and wait for its certificate
    Issue(Issue),
    /// Do what is due for certificates now
    Renew(Renew),
    /// Show what the next pass would do
    Plan(Plan),
    /// Check whether authorities could validate a certificate's names now
    Check(OneName),
    /// Serve the previous certificate again
    Rollback(Rollback),
    /// Revoke a certificate and replace it
    Revoke(Revoke),
    /// Show what happened to a certificate, and when
    History(OneName),
    /// Fetch a certificate with its private key to this host
    ///
    /// DIR gets cert.pem, chain.pem, fullchain.pem, privkey.pem and bundle.pem (key, certificate,
    /// chain). All five change at one instant. The command needs only the bucket and its region, no
    /// function.
    ///
    /// A directory is for one certificate: another one is refused. After the bucket was restored
    /// from an older copy, the files may be newer than its certificate. If the bucket does not know
    /// them, they stay, and the exit code is 1 until certloop has ordered again.
    Pull(Pull),
    /// Write all certificates as one HTML page
    Page(Page),
    /// Check the whole installation
    Doctor,
    /// Print the JSON Schema of documents or settings
    Schema(Schema),
    /// Print the completion script of a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Print the manual page, or write one per command
    Man {
        /// Where to write them
        #[arg(value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Only these certificates
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Also show certificates that certloop does not manage
    #[arg(long)]
    pub(crate) unmanaged: bool,
    /// Leave nothing out, however many certificates there are
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OneName {
    /// Name of the document
    pub(crate) name: String,
}

/// What a document says; each is a field of it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Document")]
pub(crate) struct Document {
    /// A name for the certificate
    #[arg(long = "domain", short = 'd', value_name = "DOMAIN")]
    pub(crate) domains: Vec<String>,
    /// ARN of an HTTPS listener that will serve it
    #[arg(long = "listener", short = 'l', value_name = "ARN")]
    pub(crate) listeners: Vec<String>,
    /// Make it the default certificate of these listeners instead of one chosen by name
    #[arg(long, requires = "listeners")]
    pub(crate) default: bool,
    /// Import it into the certificate manager of REGION; without REGION, of the function's region
    #[arg(long, value_name = "REGION", num_args = 0..=1, default_missing_value = "")]
    pub(crate) certificate_manager: Vec<String>,
    /// Key of an authority in settings.json; several in order of preference
    #[arg(long = "authority", value_name = "KEY")]
    pub(crate) authorities: Vec<String>,
    /// Profile to order
    #[arg(long)]
    pub(crate) acme_profile: Option<String>,
    /// Kind of key: ecdsa-p256, ecdsa-p384, rsa-2048, ...
    #[arg(long)]
    pub(crate) key_type: Option<String>,
    /// If some names cannot be validated, order for the others
    #[arg(long)]
    pub(crate) partial: bool,
    /// ARN of a certificate that this one takes over from
    #[arg(long, value_name = "ARN")]
    pub(crate) supersedes: Vec<String>,
    /// Tag of the imported certificates
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub(crate) tags: Vec<String>,
    /// Read the whole document from a file instead; - is standard input
    #[arg(long, value_hint = ValueHint::FilePath, conflicts_with_all = [
        "domains", "listeners", "certificate_manager", "authorities", "acme_profile", "key_type",
         "partial", "supersedes", "tags",
    ])]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Name of the document
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) document: Document,
    /// Follow the issuance until the certificate is served
    #[arg(long, short)]
    pub(crate) wait: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// Name of the document
    pub(crate) name: String,
    /// Set a field of the document without an editor, such as keyType=rsa-2048; null removes it
    #[arg(long, value_name = "FIELD=JSON")]
    pub(crate) set: Vec<String>,
    /// Follow the work until the certificate is served
    #[arg(long, short)]
    pub(crate) wait: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Pause {
    /// Name of the document
    pub(crate) name: String,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Name of the document
    pub(crate) name: String,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Issue {
    /// Name of the document
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) document: Document,
    /// Replace a different document of this name
    #[arg(long)]
    pub(crate) replace: bool,
    /// Do not ask whether to replace it
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Renew {
    /// Renew only these certificates; for all of them, use --all
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// All certificates: one pass, as the schedule makes it
    #[arg(long, conflicts_with_all = ["names", "force"])]
    pub(crate) all: bool,
    /// Renew now, even if it is not due or waits after a failure
    #[arg(long)]
    pub(crate) force: bool,
    /// With --force: order a new certificate even if the last one is not deployed yet
    #[arg(long, requires = "force")]
    pub(crate) reissue: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// Only these certificates
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Plan for a later time: a date (2027-02-01) or an instant (2027-02-01T09:20:00Z)
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    pub(crate) at: Option<OffsetDateTime>,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// Name of the document
    pub(crate) name: String,
    /// Serial of the certificate to serve; default: the last one that was served
    #[arg(long)]
    pub(crate) serial: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Name of the document
    pub(crate) name: String,
    /// Reason for the revocation
    #[arg(long, default_value = "unspecified")]
    pub(crate) reason: Reason,
    /// Serial of the certificate to revoke; default: the one that is served
    #[arg(long)]
    pub(crate) serial: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Reasons of RFC 5280 section 5.3.1 that make sense here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "camelCase")]
pub(crate) enum Reason {
    Unspecified,
    KeyCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
}

impl Reason {
    /// Returns the word of the event.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
        }
    }
}

/// Fetch a certificate with its private key to this host.
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Name of the document
    pub(crate) name: CertificateName,
    /// Directory to write to
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) to: PathBuf,
    /// Command to run when something changed; if it fails, the old files come back
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    pub(crate) exec: Option<String>,
    /// How long the command may take: 90s, 2m, 1h
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = time_span,
    requires = "exec")]
    pub(crate) exec_timeout: Duration,
    /// Keep running, and look for a new certificate at intervals
    #[arg(long)]
    pub(crate) watch: bool,
    /// How often to look with --watch: 30m, 1h, 1d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time_span,
    requires = "watch")]
    pub(crate) every: Duration,
    /// Owner of the files: user, user:group or :group
    #[arg(long)]
    pub(crate) owner: Option<Owner>,
    /// Mode of the files that hold the key, octal; the others are 0644
    #[arg(long, default_value = "0600")]
    pub(crate) mode: Mode,
    /// Write the bucket's certificate even if DIR holds another certificate, or a newer one that
    /// the bucket does not know
    #[arg(long, conflicts_with = "watch")]
    pub(crate) replace: bool,
}

/// Parses a time such as `90s`, `2m`, `1h` or `1d`; without a unit, seconds. At least a second, at
/// most 30 days.
fn time_span(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = match text.strip_prefix(digits) {
        Some("" | "s") => 1,
        Some("m") => 60,
        Some("h") => 60 * 60,
        Some("d") => 24 * 60 * 60,
        _ => 0,
    };
    let number = digits.parse::<u64>().unwrap_or_default();
    match number.saturating_mul(unit) {
        seconds @ 1..=2_592_000 => Ok(Duration::from_secs(seconds)),
        _ => Err("use a time such as 90s, 30m, 1h or 1d, of a second to 30 days".to_owned()),
    }
}

/// Parses an instant of RFC 3339, or a date alone: its first moment, or now if that is today.
fn instant(text: &str) -> Result<OffsetDateTime, String> {
    instant_seen_from(OffsetDateTime::now_utc(), text)
}

fn instant_seen_from(now: OffsetDateTime, text: &str) -> Result<OffsetDateTime, String> {
    let midnight = OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339);
    match midnight {
        Ok(midnight) if midnight.date() == now.date() => Ok(now),
        Ok(midnight) => Ok(midnight),
        Err(_) => OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
            "use a date such as 2027-02-01 or an instant of RFC 3339 such as 2027-02-01T09:20:00Z"
                .to_owned()
        }),
    }
}

#[derive(Debug, Args)]
pub(crate) struct Page {
    /// Open it in the browser instead of printing it
    #[arg(long)]
    pub(crate) open: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// Which schema
    pub(crate) of: SchemaOf,
}

/// What there are schemas of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaOf {
    /// certificates/NAME.json
    Certificate,
    /// settings.json
    Settings,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn replacing_is_no_habit() {
        let pull = |more: &[&str]| {
            let words = ["certloop", "pull", "shop", "--to", "tls", "--replace"];
            Cli::try_parse_from(words.iter().chain(more))
        };
        assert!(pull(&[]).is_ok());
        let refused = pull(&["--watch"]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ArgumentConflict);
    }

    #[test]
    fn times_have_a_unit_and_bounds() {
        for (text, seconds) in [
            ("90", 90),
            ("90s", 90),
            ("2m", 120),
            ("1h", 3600),
            ("30d", 2_592_000),
        ] {
            assert_eq!(time_span(text), Ok(Duration::from_secs(seconds)));
        }
        for bad in [
            "",
            "0",
            "h",
            "1w",
            "-1h",
            "1.5h",
            "31d",
            "1h30m",
            "18446744073709551615d",
        ] {
            assert!(time_span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_date_alone_is_its_first_moment_and_today_is_now() {
        let now = datetime!(2027-01-31 12:00 UTC);
        let of = |text| instant_seen_from(now, text);
        assert_eq!(of("2027-02-01"), Ok(datetime!(2027-02-01 00:00 UTC)));
        assert_eq!(of("2027-01-31"), Ok(now));
        let later = datetime!(2027-02-01 08:20 UTC);
        assert_eq!(of("2027-02-01T09:20:00+01:00"), Ok(later));
        for bad in ["tomorrow", "2027-02-30", "2027-02", "9:20", ""] {
            assert!(of(bad).unwrap_err().contains("2027-02-01"), "{bad}");
        }
    }

    #[test]
    fn the_exit_codes_are_in_the_help_once() {
        let help = Cli::command().render_long_help().to_string();
        assert_eq!(help.matches("Exit").count(), 1, "{help}");
        assert!(help.contains("2  the command was not understood"), "{help}");
    }

    #[test]
    fn reasons_are_those_of_the_event() {
        for reason in Reason::value_variants() {
            let named = reason.to_possible_value().unwrap();
            assert_eq!(named.get_name(), reason.word());
        }
    }
}
