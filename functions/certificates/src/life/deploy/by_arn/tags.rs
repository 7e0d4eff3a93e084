//! Brings the tags of a document to its certificate in the certificate manager.

use crate::life::deploy::by_arn::import::{Arrived, Imported};
use crate::life::work::Work;
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::ports::certificate_manager::CertificateManager;
use crate::records::deployment::TagsFailure;
use crate::values::instant::whole_seconds;
use crate::values::problem_types::ProblemType;

impl<P: Ports> Work<'_, '_, P> {
    /// Sets the document's tags, and takes away those that an earlier document set. Tags of others
    /// stay. The report names a failure, which stops nothing: tags change no visitor's certificate.
    pub(super) async fn bring_tags(
        &mut self,
        region: &str,
        arrived: &Arrived<'_>,
    ) -> Result<(), Stop> {
        let wanted = &self.wanted.tags;
        let Some(import) = self.state.deployment.imports.get(region) else {
            return Ok(());
        };
        let now = self.cycle.clock.now();
        if !import.wants_tags(wanted, now) {
            return Ok(());
        }
        let before = import.tags.iter().flatten();
        let gone: Vec<String> = before
            .map(|(key, _)| key.clone())
            .filter(|key| !wanted.contains_key(key))
            .collect();
        // A new certificate is imported with its tags.
        if arrived.how != Imported::New {
            // Ours are among them: that shows that the certificate is of this installation.
            let set = self.cycle.tags(&self.wanted);
            let manager = self.cycle.ports.certificate_manager(region);
            if let Err(error) = manager.change_tags(&arrived.arn, &gone, &set).await {
                let about = format!("tags of {}", arrived.arn);
                let failure = TagsFailure {
                    tags: wanted.clone(),
                    problem: error.problem(ProblemType::CertificateManager, &about),
                    at: whole_seconds(now),
                };
                self.note("not tagged", failure.problem.detail.clone());
                if let Some(import) = self.state.deployment.imports.get_mut(region) {
                    import.tags_failure = Some(failure);
                }
                return Ok(());
            }
            self.deployed.changed = true;
            self.note("tagged", arrived.arn.to_string());
        }
        let wanted = self.wanted.tags.clone();
        if let Some(import) = self.state.deployment.imports.get_mut(region) {
            import.tags = Some(wanted);
            import.tags_failure = None;
        }
        Ok(())
    }
}
