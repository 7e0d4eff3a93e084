//! The way to an installation: its bucket and its function, opened when they are first needed.

use certificates::adapters::aws::{Aws, Bucket};
use tokio::sync::OnceCell;

use crate::cli_error::CliError;
use crate::config::Config;
use crate::function::Function;

/// The installation that is meant.
pub(crate) struct Installation {
    config: Config,
    aws: OnceCell<Aws>,
}

impl Installation {
    /// Opens nothing yet.
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            aws: OnceCell::new(),
        }
    }

    /// Returns what is configured.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the bucket.
    pub(crate) async fn bucket(&self) -> Result<Bucket, CliError> {
        let name = self.config.bucket()?;
        self.config.check_profile()?;
        // Documents are not encrypted with it.
        let kms_key_arn = if self.config.local() {
            self.config.kms_key_arn()
        } else {
            None
        };
        Ok(self.aws().await.bucket(name, kms_key_arn))
    }

    /// Returns the function, or what does the same in this process.
    pub(crate) async fn function(&self) -> Result<Function, CliError> {
        if !self.config.local() {
            let name = self.config.function()?;
            self.config.check_profile()?;
            return Ok(Function::remote(self.aws().await.config(), name));
        }
        let (bucket, kms_key_arn) = (self.config.bucket()?, self.config.kms_key_arn());
        self.config.check_profile()?;
        let aws = self.load().await;
        let region = aws.region().map(str::to_owned).ok_or_else(|| {
            CliError::misused("which region? None is named")
                .try_next("--region REGION, or the environment variable AWS_REGION")
        })?;
        Ok(Function::local(aws, bucket, region, kms_key_arn))
    }

    /// Returns the way to AWS.
    pub(crate) async fn aws(&self) -> &Aws {
        self.aws.get_or_init(|| self.load()).await
    }

    async fn load(&self) -> Aws {
        let region = self.config.region();
        Aws::load_as(self.config.profile(), region.as_deref()).await
    }
}
