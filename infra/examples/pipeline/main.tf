# certloop in one environment. Its certificates are files, certificates/<environment>/<name>.json,
# so that each is added, changed and reviewed separately.

data "aws_caller_identity" "current" {}

locals {
  folder = "${path.module}/certificates/${var.environment}"
}

module "certloop" {
  # In your repository, with the release of the packages:
  # git::https://github.com/<owner>/certloop.git//infra?ref=v1.0.0
  source = "../.."

  name         = "certloop-${var.environment}"
  tags         = { Environment = var.environment }
  packages     = var.packages
  architecture = var.architecture

  contact                 = [var.email]
  alarm_emails            = [var.email]
  terms_of_service_agreed = true
  directory               = "https://acme-${var.production ? "" : "staging-"}v02.api.letsencrypt.org/directory"

  # An environment that stays on staging: browsers do not trust it, and that is not a problem to
  # report.
  settings = { authorities = { letsencrypt = { private = !var.production } } }

  load_balancers = { for name in var.load_balancers : lower(name) => { name = name } }
  certificates   = { for file in fileset(local.folder, "*.json") : trimsuffix(file, ".json") => jsondecode(file("${local.folder}/${file}")) }

  permissions_boundary = var.permissions_boundary
  force_destroy        = var.force_destroy
}
