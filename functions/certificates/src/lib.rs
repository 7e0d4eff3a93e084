//! The life of a certificate: what the functions share.
//!
//! ```text
//!  event ─▶ invocation ─▶ life: look at all, work off what is due, the most urgent first
//!                           │
//!                           ├─ decide    what is needed, and what of it may be done now
//!                           ├─ work      the lease on one certificate: taken, saved, given back
//!                           └─ act ┬─ order ─── place ─▶ pursue ─▶ validate ─▶ issue ─▶ the vault
//!                                  ├─ deploy ── import ─▶ create_listener ─▶ attach ─▶ prove
//!                                  │             ─▶ clean_up
//!                                  ├─ rollback  to the certificate before; revoke
//!                                  ├─ remove    off everywhere, deleted, forgotten a week later
//!                                  └─ notify    what people are told of it
//! ```
//!
//! # One certificate, station by station
//!
//! 1. [`invocation`] takes one event and gives one answer. What is asked for by name
//!    ([`actions`](invocation::actions)) is written into the record and then carried out like the
//!    rest.
//! 2. [`life`] looks at all certificates of a pass, then works off what is due.
//! 3. [`decide`](life::decide) reads document, record and listeners. It says what is needed, and
//!    what of it may be done now. Where nothing is to be done, nothing is written and no authority
//!    is asked. Whether a certificate is due for renewal is a pure decision:
//!    [`rules::renewal`].
//! 4. [`work`](life::work) takes the lease by a conditional write on the very record that was
//!    looked at.
//! 5. [`act`](life::act) carries out what was decided, and tells what became of it.
//! 6. [`order`](life::order) goes from one attempt to the next. `order::route` says which authority
//!    is asked and what stands in the way there; [`place`](life::order::place) takes what an order
//!    costs from the ledger and makes it; [`pursue`](life::order::pursue) asks
//!    for the order's status and takes the step it calls for: [`validate`](life::order::validate)
//!    answers the challenges, [`issue`](life::order::issue) stores the key, then the chain. An
//!    order that dies ends in [`end`](life::order::end).
//! 7. [`deploy`](life::deploy) brings what is in the vault onto all targets, family by family
//!    ([`destination`](life::deploy::destination)). By ARN ([`by_arn`](life::deploy::by_arn)):
//!    [`import`](life::deploy::by_arn::import) into a certificate manager,
//!    [`create_listener`](life::deploy::by_arn::create_listener) where there is none yet,
//!    [`attach`](life::deploy::by_arn::attach), where the certificate before is taken off,
//!    [`prove`](life::deploy::by_arn::prove), [`clean_up`](life::deploy::by_arn::clean_up).
//! 8. [`rollback`](life::rollback) goes back to the certificate before,
//!    [`revoke`](life::revoke) has one revoked, [`remove`](life::remove) takes everything away.
//! 9. [`notify`](life::notify) stores what people are told, sends it and marks it.
//!
//! # The rules
//!
//! The code cites rules by number (`rule 3`, `rule 12`): "Twelve rules" in `functions/README.md`
//! lists them.
//!
//! # The folders
//!
//! Each may import those above it, never one below, and calls count as imports: `tests/folders.rs`
//! reads that from the source. Only [`invocation`] names [`adapters::live`], where the ports are
//! opened as they are.
//!
//! | folder | what stands in it |
//! |---|---|
//! | [`values`] | words of the domain, immutable |
//! | [`contract`] | what people and programs write and read |
//! | [`records`] | what we store for ourselves |
//! | [`ports`] | traits for what is outside |
//! | [`rules`] | pure decisions |
//! | [`pass`] | what all certificates of a pass share |
//! | [`life`] | one certificate, from absent to proved |
//! | [`dry_run`] | ports that change nothing |
//! | [`invocation`] | one event in, one answer out |
//! | [`adapters`] | one outside thing each |
//!
//! A new destination begins with the questions of `destination` in [`rules`] and with the port
//! [`life::deploy::destination`], a new way of validation beside `http_01` in [`life::order`].
//! Something new outside begins with a port in [`ports`], its rules in [`rules`] and its adapter in
//! [`adapters`]; the station that uses it stands in [`life`].
//!
//! [`challenge`], [`log`] and [`metrics`] are all that the challenge function needs: it compiles
//! these three files in and depends on nothing else, since it has to be small and to start fast.

pub mod challenge;
pub mod log;
pub mod metrics;

pub mod adapters;
pub mod contract;
pub mod dry_run;
pub mod invocation;
pub mod life;
pub mod pass;
pub mod ports;
pub mod records;
pub mod rules;
pub mod values;
