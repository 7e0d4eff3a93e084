//! The life of a certificate: what the functions share.
//!
//! ```text
//!  event ─▶ invocation ─▶ life: look at all certificates, then do what is due, most urgent first
//!                           │
//!                           ├─ decide    what is needed, and which part of it may be done now
//!                           ├─ work      take the lease on one certificate, save, give it back
//!                           └─ act ┬─ order ─── place ─▶ pursue ─▶ validate ─▶ issue ─▶ the vault
//!                                  ├─ deploy ── import ─▶ create_listener ─▶ attach ─▶ prove
//!                                  │             ─▶ clean_up
//!                                  ├─ rollback  go back to the previous certificate; revoke
//!                                  ├─ remove    take it off, delete it, forget it a week later
//!                                  └─ notify    send messages about it to people
//! ```
//!
//! # One certificate, step by step
//!
//! 1. [`invocation`] takes one event and gives one answer. It writes a request for one certificate
//!    ([`actions`](invocation::actions)) into that certificate's record. The request is then
//!    carried out like all other work.
//! 2. [`life`] looks at all certificates of a pass, then does what is due.
//! 3. [`decide`](life::decide) reads document, record and listeners. It says what is needed, and
//!    which part of it may be done now. If nothing is needed, it writes nothing and asks no
//!    authority. Whether a certificate is due for renewal is a pure decision: [`rules::renewal`].
//! 4. [`work`](life::work) takes the lease. Its write is conditional: the record must be the one
//!    that was read.
//! 5. [`act`](life::act) carries out the decision and reports the result.
//! 6. [`order`](life::order) goes from one attempt to the next:
//!    - `order::route` chooses the authority and says what prevents an order there;
//!    - [`place`](life::order::place) takes the cost of an order from the ledger and places the
//!      order;
//!    - [`pursue`](life::order::pursue) asks for the order's status and takes the next step:
//!      [`validate`](life::order::validate) answers the challenges,
//!      [`issue`](life::order::issue) stores the key, then the chain;
//!    - [`end`](life::order::end) ends an order that fails.
//! 7. [`deploy`](life::deploy) brings the certificate from the vault to all targets, one kind of
//!    target after the other ([`destination`](life::deploy::destination)). For targets with an ARN
//!    ([`by_arn`](life::deploy::by_arn)):
//!    - [`import`](life::deploy::by_arn::import) imports it into a certificate manager;
//!    - [`create_listener`](life::deploy::by_arn::create_listener) creates a missing listener;
//!    - [`attach`](life::deploy::by_arn::attach) attaches it and takes the previous one off;
//!    - [`prove`](life::deploy::by_arn::prove) checks what the listener serves;
//!    - [`clean_up`](life::deploy::by_arn::clean_up) deletes what is no longer needed.
//! 8. [`rollback`](life::rollback) goes back to the previous certificate,
//!    [`revoke`](life::revoke) revokes one, [`remove`](life::remove) removes everything.
//! 9. [`notify`](life::notify) stores each message, sends it and marks it as sent.
//!
//! # The rules
//!
//! The code cites rules by number (`rule 3`, `rule 12`): "Twelve rules" in `functions/README.md`
//! lists them.
//!
//! # The folders
//!
//! In this table, a folder may import those above it, never one below. Calls count as imports.
//! `tests/folders.rs` checks this in the source. Only [`invocation`] names [`adapters::live`],
//! which opens the real ports.
//!
//! | folder | what it contains |
//! |---|---|
//! | [`values`] | words of the domain, immutable |
//! | [`contract`] | what people and programs write and read |
//! | [`records`] | what we store for our own use |
//! | [`ports`] | traits for the services outside |
//! | [`rules`] | pure decisions |
//! | [`pass`] | what all certificates of a pass share |
//! | [`life`] | one certificate, from absent to proved |
//! | [`dry_run`] | ports that change nothing |
//! | [`invocation`] | one event in, one answer out |
//! | [`adapters`] | one outside service each |
//!
//! Where to begin with something new:
//!
//! - a destination: the questions of `destination` in [`rules`], and the port
//!   [`life::deploy::destination`];
//! - a way of validation: beside `http_01` in [`life::order`];
//! - an outside service: a port in [`ports`], its rules in [`rules`], its adapter in [`adapters`],
//!   and the step that uses it in [`life`].
//!
//! The challenge function needs only [`challenge`], [`log`] and [`metrics`]. It compiles these
//! three files in and depends on nothing else, because it must be small and start fast.

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
