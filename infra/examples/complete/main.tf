# Everything from nothing: a network, a load balancer, a small site, and certloop, which makes the
# HTTPS listener.

data "aws_caller_identity" "current" {}

locals {
  name = "certloop-${var.environment}"
  tags = { Environment = var.environment }
}

module "certloop" {
  source = "../.."

  name         = local.name
  tags         = local.tags
  packages     = var.packages
  architecture = var.architecture

  contact                 = [var.email]
  alarm_emails            = [var.email]
  terms_of_service_agreed = true
  directory               = coalesce(var.directory, "https://acme-${var.production ? "" : "staging-"}v02.api.letsencrypt.org/directory")
  settings                = var.settings

  # Through the listener, so that the rule comes after it.
  load_balancers = {
    site = { arn = aws_lb_listener.http.load_balancer_arn }
  }

  certificates = {
    site = {
      domains = var.domains
      targets = [{ type = "listener", loadBalancer = aws_lb.this.arn, forward = aws_lb_target_group.site.arn }]
    }
  }

  environment   = var.function_environment
  force_destroy = var.force_destroy
}
