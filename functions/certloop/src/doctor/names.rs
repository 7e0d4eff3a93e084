//! What the module calls things beside renew.

/// What things are called beside renew, as the module names them.
#[derive(Debug)]
pub(crate) struct Names {
    /// The renewing function's own name.
    pub(crate) function: String,
    /// What all names of the module begin with.
    base: Option<String>,
}

impl Names {
    /// Reads them off renew's name or ARN.
    pub(crate) fn of(function: &str) -> Self {
        let name = match function.split_once(":function:") {
            Some((_, name)) => name.split(':').next().unwrap_or_default(),
            None => function,
        };
        Self {
            function: name.to_owned(),
            base: name.strip_suffix("-renew").map(str::to_owned),
        }
    }

    pub(super) fn challenge(&self) -> Option<String> {
        self.base.as_ref().map(|base| format!("{base}-challenge"))
    }

    /// Returns the schedule's group and name.
    pub(super) fn schedule(&self) -> Option<(String, String)> {
        let base = self.base.as_ref()?;
        Some((base.clone(), format!("{base}-reconcile")))
    }

    pub(super) fn queue(&self) -> Option<String> {
        self.base
            .as_ref()
            .map(|base| format!("{base}-dead-letters"))
    }

    /// Returns the ARN of the rule for new documents; `function` is renew's ARN.
    pub(super) fn document_rule(&self, function: &str) -> Option<String> {
        let base = self.base.as_ref()?;
        let (before, _) = function.split_once(":function:")?;
        Some(format!(
            "{}:rule/{base}-document",
            before.replacen(":lambda:", ":events:", 1)
        ))
    }
}
