//! Pure: what a policy of AWS IAM's language says of one request. Only what resource policies of
//! ours use is understood; where a condition is not, the answer is "perhaps".

use certificates::values::wildcard::fits;
use serde_json::Value;

/// A request that somebody might make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'r> {
    /// `s3:GetObject`.
    pub(crate) action: &'r str,
    /// The ARN of what it is about.
    pub(crate) resource: &'r str,
    /// Who makes it.
    pub(crate) principal: Principal<'r>,
    /// What conditions may ask for, by key in lower case.
    pub(crate) context: &'r [(&'r str, &'r str)],
}

/// Who makes a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Principal<'r> {
    /// A role, by its ARN.
    Role(&'r str),
    /// A service of AWS, such as `events.amazonaws.com`.
    Service(&'r str),
}

/// An answer that may be unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Match {
    /// It is not so.
    No,
    /// It hangs on something that is not understood here.
    Perhaps,
    /// It is so.
    Yes,
}

/// Returns whether a statement of this effect (`Allow`, `Deny`) is about the request.
pub(crate) fn says(policy: &Value, effect: &str, request: &Request<'_>) -> Match {
    let statements = listed(&policy["Statement"]).into_iter();
    let about = statements
        .filter(|statement| statement["Effect"] == effect)
        .map(|statement| is_about(statement, request));
    about.max().unwrap_or(Match::No)
}

fn is_about(statement: &Value, request: &Request<'_>) -> Match {
    let action = either(statement, "Action", |pattern| {
        fits(
            &pattern.to_ascii_lowercase(),
            &request.action.to_ascii_lowercase(),
        )
    });
    let resource = either(statement, "Resource", |pattern| {
        fits(pattern, request.resource)
    });
    let principal = either_value(statement, "Principal", |who| {
        is_principal(who, request.principal)
    });
    if !(action && resource && principal) {
        return Match::No;
    }
    let operators = statement["Condition"].as_object();
    let conditions = operators
        .into_iter()
        .flatten()
        .flat_map(|(operator, keys)| {
            let keys = keys.as_object().into_iter().flatten();
            keys.map(move |(key, values)| holds(operator, key, values, request.context))
        });
    conditions.min().unwrap_or(Match::Yes)
}

/// Whether one of the texts under a key fits, or none of those under `Not` and the key.
fn either(statement: &Value, key: &str, fits: impl Fn(&str) -> bool) -> bool {
    either_value(statement, key, |value| texts(value).into_iter().any(&fits))
}

fn either_value(statement: &Value, key: &str, fits: impl Fn(&Value) -> bool) -> bool {
    match (statement.get(key), statement.get(format!("Not{key}"))) {
        (Some(value), _) => fits(value),
        (None, Some(value)) => !fits(value),
        // A statement without resources is about the one that the policy belongs to.
        (None, None) => true,
    }
}

fn is_principal(who: &Value, principal: Principal<'_>) -> bool {
    if who == "*" {
        return true;
    }
    match principal {
        Principal::Role(arn) => {
            let account = arn.split(':').nth(4).unwrap_or_default();
            let named = texts(&who["AWS"]);
            named.into_iter().any(|one| {
                one == "*"
                    || one == arn
                    || one == account
                    || one.ends_with(&format!("::{account}:root"))
            })
        }
        Principal::Service(name) => texts(&who["Service"]).contains(&name),
    }
}

fn holds(operator: &str, key: &str, values: &Value, context: &[(&str, &str)]) -> Match {
    let key = key.to_ascii_lowercase();
    let Some((_, actual)) = context.iter().find(|(known, _)| *known == key) else {
        return Match::Perhaps;
    };
    let operator = operator.strip_suffix("IfExists").unwrap_or(operator);
    let operator = operator
        .rsplit_once(':')
        .map_or(operator, |(_, operator)| operator);
    let (operator, negated) = match operator.split_once("Not") {
        Some((kind, rest)) => (format!("{kind}{rest}"), true),
        None => (operator.to_owned(), false),
    };
    let matching: fn(&str, &str) -> bool = match operator.as_str() {
        "StringEquals" => |value, actual| value == actual,
        "StringEqualsIgnoreCase" | "Bool" => |value, actual| value.eq_ignore_ascii_case(actual),
        "StringLike" | "ArnLike" | "ArnEquals" => fits,
        _ => return Match::Perhaps,
    };
    let any = texts(values)
        .into_iter()
        .any(|value| matching(value, actual));
    match any != negated {
        true => Match::Yes,
        false => Match::No,
    }
}

/// Returns one value or all of a list.
fn listed(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(all) => all.iter().collect(),
        Value::Null => Vec::new(),
        one => vec![one],
    }
}

fn texts(value: &Value) -> Vec<&str> {
    let as_text = |value: &'_ Value| match value {
        Value::Bool(true) => Some("true"),
        Value::Bool(false) => Some("false"),
        _ => None,
    };
    let all = listed(value).into_iter();
    all.filter_map(|one| one.as_str().or_else(|| as_text(one)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RENEW: &str = "arn:aws:iam::123456789012:role/certloop-renew";
    const OTHER: &str = "arn:aws:iam::123456789012:role/other";

    fn request<'r>(
        action: &'r str,
        resource: &'r str,
        context: &'r [(&'r str, &'r str)],
    ) -> Request<'r> {
        Request {
            action,
            resource,
            principal: Principal::Role(OTHER),
            context,
        }
    }

    #[test]
    fn a_denial_but_for_one_role_is_about_all_others() {
        let policy = json!({"Statement": [{
            "Effect": "Deny", "Principal": "*", "NotAction": "s3:GetObject",
            "NotResource": ["arn:aws:s3:::b", "arn:aws:s3:::b/certificates/*"],
            "Condition": {"StringNotEquals": {"aws:PrincipalArn": [RENEW]}},
        }]});
        let of = |action, resource, who| {
            says(
                &policy,
                "Deny",
                &request(action, resource, &[("aws:principalarn", who)]),
            )
        };
        assert_eq!(
            of("s3:PutObject", "arn:aws:s3:::b/state/x.json", OTHER),
            Match::Yes
        );
        assert_eq!(
            of("s3:PutObject", "arn:aws:s3:::b/state/x.json", RENEW),
            Match::No
        );
        assert_eq!(
            of("s3:PutObject", "arn:aws:s3:::b/certificates/x.json", OTHER),
            Match::No
        );
        assert_eq!(
            of("s3:GetObject", "arn:aws:s3:::b/state/x.json", OTHER),
            Match::No
        );
    }

    #[test]
    fn what_a_condition_asks_for_and_nobody_knows_is_left_open() {
        let policy = json!({"Statement": {
            "Effect": "Deny", "Principal": {"AWS": "*"}, "Action": ["s3:*"], "Resource": "*",
            "Condition": {"StringEquals": {"aws:SourceVpc": "vpc-1"},
             "Bool": {"aws:SecureTransport": false}},
        }});
        let over = |tls| {
            says(
                &policy,
                "Deny",
                &request("s3:GetObject", "x", &[("aws:securetransport", tls)]),
            )
        };
        assert_eq!(over("false"), Match::Perhaps);
        assert_eq!(over("true"), Match::No);
        assert_eq!(
            says(&policy, "Allow", &request("s3:GetObject", "x", &[])),
            Match::No
        );
    }

    #[test]
    fn a_service_is_let_in_by_its_name_and_the_source() {
        let policy = json!({"Statement": [{
            "Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"},
             "Action": "lambda:InvokeFunction",
            "Condition": {"ArnLike": {"AWS:SourceArn": "arn:aws:events:*:rule/certloop-document"}},
        }]});
        let of = |service, source| {
            let context = [("aws:sourcearn", source)];
            let request = Request {
                action: "lambda:InvokeFunction",
                resource: "arn:aws:lambda:function",
                principal: Principal::Service(service),
                context: &context,
            };
            says(&policy, "Allow", &request)
        };
        let rule = "arn:aws:events:us-east-1:123456789012:rule/certloop-document";
        assert_eq!(of("events.amazonaws.com", rule), Match::Yes);
        assert_eq!(
            of(
                "events.amazonaws.com",
                "arn:aws:events:us-east-1:123456789012:rule/x"
            ),
            Match::No
        );
        assert_eq!(of("s3.amazonaws.com", rule), Match::No);
    }
}
