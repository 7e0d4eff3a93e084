//! Pure: how a listener should look, and the changes that lead there. In between, the listener is
//! never without a certificate (rule 3).

use crate::contract::target::{NewListener, Placement};
use crate::ports::load_balancer::{Holding, Listener};
use crate::values::arn::ListenerArn;
use crate::values::problem::{Problem, ServiceError};
use crate::values::problem_types::ProblemType;

/// What we want on one listener.
#[derive(Clone, Debug)]
pub(crate) struct Wish<'a> {
    /// The ARN of the certificate that should be there.
    pub ours: &'a str,
    /// Its place on the listener.
    pub placement: Placement,
    /// ARNs of our certificates that it replaces.
    pub old: &'a [String],
    /// ARNs of other certificates that it replaces because the document says so.
    pub supersedes: &'a [String],
}

/// One change of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Add to the certificate list (SNI).
    Add(String),
    /// Make it the default certificate.
    SetDefault(String),
    /// Remove from the certificate list.
    Remove(String),
}

/// Returns the changes that put ours in place, in order: all additions come before all removals.
///
/// `keep_default`: whether the present default, which is not ours, must still be served and so
/// moves to the list.
pub(crate) fn establish(holding: &Holding, wish: &Wish<'_>, keep_default: bool) -> Vec<Change> {
    let mut changes = Vec::new();
    let default = holding.default.as_deref();
    let listed = |arn: &str| holding.list.iter().any(|held| held == arn);
    match wish.placement {
        Placement::Sni => {
            // SNI does not always choose the default, so ours is in the list even if it is the
            // default as well.
            if !listed(wish.ours) {
                changes.push(Change::Add(wish.ours.to_owned()));
            }
            // If the default is one of ours, the new one replaces it: otherwise nobody would renew
            // it any more.
            if default.is_some_and(|arn| wish.old.iter().any(|old| old == arn)) {
                changes.push(Change::SetDefault(wish.ours.to_owned()));
            }
        }
        Placement::Default => {
            if default != Some(wish.ours) {
                if let Some(foreign) = default.filter(|arn| keep_default && !listed(arn)) {
                    changes.push(Change::Add(foreign.to_owned()));
                }
                changes.push(Change::SetDefault(wish.ours.to_owned()));
            }
        }
    }
    changes
}

/// Returns the removals once ours is in place: of our old certificates, and of those that the
/// document supersedes.
///
/// They go before the proof, not after it: a listener with two certificates for a name chooses one
/// by its own rules.
pub(crate) fn clear(holding: &Holding, wish: &Wish<'_>) -> Vec<Change> {
    let gives_way = |held: &String| {
        held != wish.ours && (wish.old.contains(held) || wish.supersedes.contains(held))
    };
    let going = holding.list.iter().filter(|held| gives_way(held));
    going.cloned().map(Change::Remove).collect()
}

/// Whether the listener is as wanted.
pub(crate) fn is_as_wanted(holding: &Holding, wish: &Wish<'_>) -> bool {
    establish(holding, wish, false).is_empty() && clear(holding, wish).is_empty()
}

/// Returns a superseded certificate that stays because it is the default and we may not replace
/// the default.
pub(crate) fn stays_as_default<'h>(holding: &'h Holding, wish: &Wish<'_>) -> Option<&'h str> {
    holding
        .default
        .as_deref()
        .filter(|arn| *arn != wish.ours && wish.supersedes.iter().any(|held| held == arn))
}

/// The problem of a listener that holds no certificates.
pub(crate) fn not_https(arn: &ListenerArn, listener: &Listener) -> Problem {
    let detail = format!(
        "{arn} on port {} speaks {} and holds no certificates; name an HTTPS listener or another \
         port in targets, or delete this listener so that certloop creates one by loadBalancer \
         and port",
        listener.port, listener.protocol
    );
    Problem::ours(ProblemType::ListenerNotHttps, detail)
}

/// The problem of a listener that could not be found or created: a mistake in the document, or a
/// failure that any call can have.
pub(crate) fn not_made(new: &NewListener, error: &ServiceError) -> Problem {
    let remedy = match error.code.as_deref() {
        Some("LoadBalancerNotFound") => "name an existing load balancer in loadBalancer",
        Some(
            "TargetGroupNotFound"
            | "TargetGroupAssociationLimit"
            | "TooManyUniqueTargetGroupsPerLoadBalancer"
            | "InvalidLoadBalancerAction"
            | "IncompatibleProtocols",
        ) => "name a target group in forward that this load balancer can use",
        Some("SSLPolicyNotFound") => {
            "name a security policy in tlsPolicy (aws elbv2 describe-ssl-policies)"
        }
        Some("TooManyListeners") => "remove one, or ask for a higher quota",
        Some(
            "ValidationError"
            | "InvalidConfigurationRequest"
            | "OperationNotPermitted"
            | "UnsupportedProtocol",
        ) => "change the target in the document",
        _ => return error.problem(ProblemType::LoadBalancer, &new.key()),
    };
    let detail = format!("the listener {}: {error}; {remedy}", new.key());
    Problem::ours(ProblemType::ListenerNotMade, detail)
}

/// The problem of a listener that does not exist.
pub(crate) fn listener_gone(arn: &ListenerArn) -> Problem {
    let detail =
        format!("{arn} does not exist; name an existing listener in targets or remove it there");
    Problem::ours(ProblemType::ListenerGone, detail)
}

/// Returns a text that is the same for all listeners of one load balancer.
pub(crate) fn balancer_of(listener: &ListenerArn) -> String {
    balancer_of_text(listener.as_str())
}

pub(crate) fn balancer_of_text(listener: &str) -> String {
    let (balancer, _) = listener.rsplit_once('/').unwrap_or((listener, ""));
    balancer.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(default: &str, list: &[&str]) -> Holding {
        Holding {
            default: Some(default.to_owned()),
            list: list.iter().map(|arn| (*arn).to_owned()).collect(),
        }
    }

    fn wish<'a>(placement: Placement, old: &'a [String], supersedes: &'a [String]) -> Wish<'a> {
        Wish {
            ours: "ours",
            placement,
            old,
            supersedes,
        }
    }

    #[test]
    fn a_missing_one_is_added_to_the_list_and_the_default_left_alone() {
        let wish = wish(Placement::Sni, &[], &[]);
        assert_eq!(
            establish(&holding("foreign", &["other"]), &wish, true),
            [Change::Add("ours".to_owned())]
        );
        assert!(is_as_wanted(&holding("foreign", &["other", "ours"]), &wish));
    }

    #[test]
    fn a_foreign_default_worth_keeping_is_listed_before_it_is_replaced() {
        let wish = wish(Placement::Default, &[], &[]);
        assert_eq!(
            establish(&holding("foreign", &[]), &wish, true),
            [
                Change::Add("foreign".to_owned()),
                Change::SetDefault("ours".to_owned())
            ]
        );
        assert_eq!(
            establish(&holding("foreign", &["foreign"]), &wish, true),
            [Change::SetDefault("ours".to_owned())]
        );
        assert_eq!(
            establish(&holding("foreign", &[]), &wish, false),
            [Change::SetDefault("ours".to_owned())]
        );
    }

    #[test]
    fn the_old_one_leaves_the_list_also_where_it_was_the_default() {
        let old = ["old".to_owned()];
        let wish = wish(Placement::Default, &old, &[]);
        assert_eq!(
            clear(&holding("ours", &["old", "other"]), &wish),
            [Change::Remove("old".to_owned())]
        );
        assert!(!is_as_wanted(&holding("ours", &["old"]), &wish));
    }

    #[test]
    fn an_old_default_of_ours_is_replaced_even_when_only_the_list_was_asked_for() {
        let old = ["old".to_owned()];
        let wish = wish(Placement::Sni, &old, &[]);
        assert_eq!(
            establish(&holding("old", &[]), &wish, false),
            [
                Change::Add("ours".to_owned()),
                Change::SetDefault("ours".to_owned())
            ]
        );
    }

    #[test]
    fn what_is_superseded_leaves_the_list_but_stays_as_default() {
        let supersedes = ["theirs".to_owned()];
        let wish = wish(Placement::Sni, &[], &supersedes);
        let holding = holding("theirs", &["theirs", "ours", "other"]);
        assert_eq!(
            clear(&holding, &wish),
            [Change::Remove("theirs".to_owned())]
        );
        assert_eq!(stays_as_default(&holding, &wish), Some("theirs"));
    }
}
