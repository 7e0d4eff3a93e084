# certloop for many customers whose domains point at one Application Load Balancer: one document,
# and so one certificate, per customer.

data "aws_caller_identity" "current" {}

data "aws_lb" "this" { # not found? See load_balancer; same account and region
  arn  = startswith(var.load_balancer, "arn:") ? var.load_balancer : null
  name = startswith(var.load_balancer, "arn:") ? null : var.load_balancer
}

data "aws_lb_listener" "https" { # none on port 443? See examples/existing-load-balancer, `forward`
  load_balancer_arn = data.aws_lb.this.arn
  port              = 443
}

module "certloop" {
  source = "../.."

  name         = "certloop-${var.environment}"
  tags         = { Environment = var.environment }
  packages     = var.packages
  architecture = var.architecture

  contact                 = [var.email]
  alarm_emails            = [var.email]
  terms_of_service_agreed = true
  directory               = "https://acme-${var.production ? "" : "staging-"}v02.api.letsencrypt.org/directory"
  settings                = var.settings

  load_balancers = {
    front = { arn = data.aws_lb.this.arn, priority = var.priority }
  }

  certificates = {
    for customer, wanted in var.customers : customer => {
      domains = wanted.domains
      paused  = wanted.paused
      tags    = { Customer = customer }
      targets = [{ type = "listener", arn = data.aws_lb_listener.https.arn }]
    }
  }

  alarms        = { certificates_per_listener = var.certificates_per_load_balancer }
  force_destroy = var.force_destroy
}

check "room_to_switch" {
  assert {
    condition = length(var.customers) < var.certificates_per_load_balancer
    error_message = join(" ", [
      "customers: they fill the load balancer's quota. A change of key type adds the new",
      "certificate before it removes the old one, and needs one free place.",
    ])
  }
}
