//! The account at an authority: created once, kept in `accounts/`, never created again because of
//! an error.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::contract::settings::Authority;
use crate::pass::memo::Memo;
use crate::pass::stop::{Failing, Stop, store_problem};
use crate::ports::Ports;
use crate::ports::authority::{
    Account, AccountKey, Authorities, ExternalBinding, Opened, Registered,
};
use crate::ports::store::{Condition, StoreError, account_key, read_record, write_record};
use crate::records::record::Record;
use crate::values::problem::{AcmeError, Problem};
use crate::values::problem_types::ProblemType;

/// `accounts/<authority>-<digest>.json`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccountRecord {
    version: u32,
    write_id: String,
    directory: String,
    /// PKCS#8 in base64url.
    key: Zeroizing<String>,
    /// The account's URL, once it is registered.
    url: Option<String>,
    /// The contacts that the authority knows.
    #[serde(default)]
    contact: Vec<String>,
}

impl Record for AccountRecord {
    fn stamp(&mut self, write_id: String) {
        self.write_id = write_id;
    }
}

impl AccountRecord {
    /// Returns the account, once it is registered and the authority has the current contacts.
    fn opened(&self, authority: &Authority) -> Option<Opened> {
        let url = self.url.clone()?;
        (self.contact == authority.contact).then(|| Opened {
            key: AccountKey(self.key.clone()),
            url,
        })
    }
}

/// The accounts at the authorities, each opened once per pass.
pub(crate) struct Accounts<'p, P: Ports> {
    ports: &'p P,
    opened: Memo<Result<Opened, Failing>>,
}

impl<'p, P: Ports> Accounts<'p, P> {
    pub(crate) fn new(ports: &'p P) -> Self {
        Self {
            ports,
            opened: Memo::default(),
        }
    }

    /// Signs in to the account at an authority. Creates it if there is none yet.
    ///
    /// Many certificates may ask at once: the account is opened once per pass, and a failure counts
    /// for all of them.
    #[tracing::instrument(level = "error", skip_all, fields(authority = %authority.key))]
    pub(crate) async fn account(
        &self,
        authority: &Authority,
    ) -> Result<<P::Authorities as Authorities>::Account, Stop> {
        let opened = self.opened(authority).await?;
        Ok(self
            .ports
            .authorities()
            .sign_in(authority, &opened.key, &opened.url)
            .await?)
    }

    pub(crate) async fn opened(&self, authority: &Authority) -> Result<Opened, Stop> {
        let cell = self.opened.cell(&authority.key);
        cell.get_or_init(|| self.open(authority))
            .await
            .clone()
            .map_err(Stop::Failed)
    }

    async fn open(&self, authority: &Authority) -> Result<Opened, Failing> {
        let store = self.ports.store();
        let object = account_key(&authority.key, &authority.directory);
        // Each round either ends or has read a write of another invocation.
        for _ in 0..ROUNDS {
            let read = read_record::<AccountRecord>(store, &object)
                .await
                .map_err(|error| store_problem(&error))?;
            let (mut record, etag) = match read {
                None => (self.new_record(authority)?, None),
                Some((record, etag)) => match record.opened(authority) {
                    Some(opened) => return Ok(opened),
                    None => (self.completed(authority, record).await?, Some(etag)),
                },
            };
            let condition = match &etag {
                None => Condition::Absent,
                Some(etag) => Condition::Matches(etag),
            };
            match write_record(store, &object, &mut record, condition).await {
                Ok(_) => {
                    if let Some(opened) = record.opened(authority) {
                        return Ok(opened);
                    }
                }
                Err(StoreError::ConditionFailed { .. }) => {}
                Err(error) => return Err(store_problem(&error).into()),
            }
        }
        Err(Problem::ours(
            ProblemType::Account,
            format!("{object} keeps being changed by others"),
        )
        .into())
    }

    /// Makes the record of a new account. It holds the key alone, which is stored before the
    /// account is registered.
    fn new_record(&self, authority: &Authority) -> Result<AccountRecord, Failing> {
        Ok(AccountRecord {
            version: AccountRecord::VERSION,
            write_id: String::new(),
            directory: authority.directory.clone(),
            key: self.ports.authorities().new_key()?.0,
            url: None,
            contact: Vec::new(),
        })
    }

    /// Registers an account of which only the key is stored, or sends the current contacts.
    async fn completed(
        &self,
        authority: &Authority,
        mut record: AccountRecord,
    ) -> Result<AccountRecord, Failing> {
        if record.url.is_none() {
            let registered = self.register(authority, &record.key).await?;
            tracing::info!(account.url = %registered.url, "account registered");
            if registered.is_new {
                record.contact.clone_from(&authority.contact);
            }
            record.url = Some(registered.url);
        } else {
            self.tell_contact(authority, &record).await?;
            record.contact.clone_from(&authority.contact);
        }
        Ok(record)
    }

    /// Registers a key with the contacts and the external account of the settings. A contact that
    /// the authority refuses must not cost a certificate: then the key is registered without it.
    async fn register(
        &self,
        authority: &Authority,
        key: &Zeroizing<String>,
    ) -> Result<Registered, Failing> {
        let binding = self.binding(authority).await?;
        let (authorities, key) = (self.ports.authorities(), AccountKey(key.clone()));
        let register = |contact| authorities.register(authority, &key, contact, binding.as_ref());
        match register(&authority.contact).await {
            Err(refusal)
                if !authority.contact.is_empty() && CONTACT_REFUSED.contains(&refusal.word()) =>
            {
                warn_of_contact(&refusal);
                Ok(register(&[]).await?)
            }
            outcome => Ok(outcome?),
        }
    }

    async fn binding(&self, authority: &Authority) -> Result<Option<ExternalBinding>, Failing> {
        let Some(external) = &authority.external_account else {
            return Ok(None);
        };
        let hmac = self
            .ports
            .secret(&external.secret_arn)
            .await
            .map_err(|error| {
                error.problem(ProblemType::ExternalAccount, "the external account secret")
            })?;
        Ok(Some(ExternalBinding {
            key_id: external.key_id.clone(),
            hmac,
        }))
    }

    /// Sends the contacts to the authority. A refusal is logged and not tried again: it must not
    /// cost a certificate.
    async fn tell_contact(
        &self,
        authority: &Authority,
        record: &AccountRecord,
    ) -> Result<(), Failing> {
        let (Some(url), key) = (&record.url, AccountKey(record.key.clone())) else {
            return Ok(());
        };
        let told = async {
            self.ports
                .authorities()
                .sign_in(authority, &key, url)
                .await?
                .set_contact(&authority.contact)
                .await
        };
        match told.await {
            Err(refusal) if refusal.status.is_some_and(|status| status < 500) => {
                warn_of_contact(&refusal);
                Ok(())
            }
            outcome => Ok(outcome?),
        }
    }
}

fn warn_of_contact(refusal: &AcmeError) {
    tracing::warn!(
        problem.type = %refusal.kind,
        problem.detail = %refusal.detail,
        "contact not accepted"
    );
}

const ROUNDS: usize = 6;
/// RFC 8555 section 6.7.
const CONTACT_REFUSED: [&str; 2] = ["invalidContact", "unsupportedContact"];

/// Returns the URL of the account at an authority where one is stored. Creates nothing and asks no
/// authority.
pub(crate) async fn account_url(ports: &impl Ports, authority: &Authority) -> Option<String> {
    let object = account_key(&authority.key, &authority.directory);
    let read = read_record::<AccountRecord>(ports.store(), &object).await;
    let (record, _) = read.ok()??;
    record.url
}
