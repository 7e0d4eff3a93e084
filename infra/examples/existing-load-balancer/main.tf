# certloop for one existing Application Load Balancer.

data "aws_caller_identity" "current" {}

locals {
  name = "certloop-${var.environment}"

  # The document names an existing listener; renew creates a missing one with the first certificate.
  target = var.forward == null ? {
    type = "listener"
    arn  = one(data.aws_lb_listener.https[*].arn)
    } : {
    type         = "listener"
    loadBalancer = data.aws_lb.this.arn
    forward      = one(data.aws_lb_target_group.forward[*].arn)
  }
}

data "aws_lb" "this" { # not found? See load_balancer; same account and region
  arn  = startswith(var.load_balancer, "arn:") ? var.load_balancer : null
  name = startswith(var.load_balancer, "arn:") ? null : var.load_balancer

  lifecycle {
    postcondition {
      condition = self.load_balancer_type == "application"
      error_message = join(" ", [
        "load_balancer: ${self.name} is a ${self.load_balancer_type} load balancer; only an",
        "Application Load Balancer can route the challenge path to a function.",
      ])
    }
  }
}

data "aws_lb_listener" "https" { # none on port 443? Set the variable `forward`
  count = var.forward == null ? 1 : 0

  load_balancer_arn = data.aws_lb.this.arn
  port              = 443

  lifecycle {
    postcondition {
      condition = self.protocol == "HTTPS"
      error_message = join(" ", [
        "load_balancer: the listener on port 443 of ${data.aws_lb.this.name} speaks",
        "${self.protocol}, not HTTPS; it cannot hold a certificate.",
      ])
    }
  }
}

data "aws_lb_target_group" "forward" { # not found? See the variable `forward`
  count = var.forward == null ? 0 : 1

  arn  = startswith(var.forward, "arn:") ? var.forward : null
  name = startswith(var.forward, "arn:") ? null : var.forward
}

check "reachable" {
  assert {
    condition = !data.aws_lb.this.internal
    error_message = join(" ", [
      "load_balancer: ${data.aws_lb.this.name} is internal. Let's Encrypt must reach port 80 of",
      "every name from outside, so something public must lead there.",
    ])
  }
}

module "certloop" {
  source = "../.."

  name         = local.name
  tags         = { Environment = var.environment }
  packages     = var.packages
  architecture = var.architecture

  contact                 = [var.email]
  alarm_emails            = [var.email]
  terms_of_service_agreed = true
  directory               = "https://acme-${var.production ? "" : "staging-"}v02.api.letsencrypt.org/directory"
  settings                = var.settings

  load_balancers = {
    site = { arn = data.aws_lb.this.arn, priority = var.priority }
  }

  certificates = {
    site = { domains = var.domains, targets = [local.target] }
  }

  force_destroy = var.force_destroy
}
