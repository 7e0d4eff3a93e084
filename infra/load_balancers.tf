# The route from port 80 of a load balancer to challenge. The key is always the label in
# var.load_balancers. It cannot be the ARN: if the same apply creates the load balancer, the ARN is
# not known at plan.

locals {
  has_load_balancers = length(var.load_balancers) > 0 || anytrue([for target in local.documented_targets : target.type == "listener"])

  challenge_routes = { for label, it in var.load_balancers : label => it if it.challenge }
  challenge_path   = "/.well-known/acme-challenge/*"
}

data "aws_lb" "this" {
  for_each = var.load_balancers
  arn      = each.value.arn
  name     = each.value.name

  lifecycle {
    postcondition {
      condition = self.load_balancer_type == "application"
      error_message = join(" ", [
        "load_balancers.${each.key}: ${self.arn} is a ${self.load_balancer_type} load balancer,",
        "and only an application load balancer can route to a function: give one, or set",
        "function_url.",
      ])
    }
  }
}

data "aws_lb_listener" "http" { # none found? It needs one on port 80, or http_port
  for_each          = local.challenge_routes
  load_balancer_arn = data.aws_lb.this[each.key].arn
  port              = each.value.http_port

  lifecycle {
    postcondition {
      condition = self.protocol == "HTTP"
      error_message = join(" ", [
        "load_balancers.${each.key}.http_port: the listener on port ${each.value.http_port} speaks",
        "${self.protocol}, and the authority asks by HTTP: give the port of the HTTP listener.",
      ])
    }
  }
}

# Only for load balancers that redirect the challenge path to https before it can be answered.
data "aws_lb_listener" "https" { # none found? See https_port, or leave https = false
  for_each          = { for label, it in local.challenge_routes : label => it if it.https }
  load_balancer_arn = data.aws_lb.this[each.key].arn
  port              = each.value.https_port

  lifecycle {
    postcondition {
      condition = self.protocol == "HTTPS"
      error_message = join(" ", [
        "load_balancers.${each.key}.https_port: the listener on port ${each.value.https_port}",
        "speaks ${self.protocol}, not HTTPS: give the port of the HTTPS listener, or set https to",
        "false.",
      ])
    }
  }
}

# One per load balancer: ELB does not let a target group serve a second one. The name is cut to
# ELB's 32 characters.
resource "aws_lb_target_group" "challenge" {
  for_each    = local.challenge_routes
  name        = "${substr(var.name, 0, 23)}-${substr(md5("${var.name}/${each.key}"), 0, 8)}"
  target_type = "lambda"
  tags        = merge(local.tags, { Name = "${var.name}-challenge-${each.key}" })
}

resource "aws_lambda_permission" "load_balancer" {
  for_each       = local.challenge_routes
  statement_id   = "load-balancer-${each.key}"
  action         = "lambda:InvokeFunction"
  function_name  = aws_lambda_function.challenge.function_name
  principal      = "elasticloadbalancing.amazonaws.com"
  source_arn     = aws_lb_target_group.challenge[each.key].arn
  source_account = local.account
}

# ELB tests the permission when the function is registered.
resource "aws_lb_target_group_attachment" "challenge" {
  for_each         = local.challenge_routes
  target_group_arn = aws_lb_target_group.challenge[each.key].arn
  target_id        = aws_lambda_function.challenge.arn

  depends_on = [aws_lambda_permission.load_balancer]
}

resource "aws_lb_listener_rule" "http" {
  for_each     = local.challenge_routes
  listener_arn = data.aws_lb_listener.http[each.key].arn
  priority     = each.value.priority
  tags         = merge(local.tags, { Name = "${var.name}-challenge" })

  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.challenge[each.key].arn
  }

  condition {
    path_pattern {
      values = [local.challenge_path]
    }
  }

  # A rule without its target would answer 503.
  depends_on = [aws_lb_target_group_attachment.challenge]
}

resource "aws_lb_listener_rule" "https" {
  for_each     = data.aws_lb_listener.https
  listener_arn = each.value.arn
  priority     = var.load_balancers[each.key].https_priority
  tags         = merge(local.tags, { Name = "${var.name}-challenge" })

  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.challenge[each.key].arn
  }

  condition {
    path_pattern {
      values = [local.challenge_path]
    }
  }

  depends_on = [aws_lb_target_group_attachment.challenge]
}
