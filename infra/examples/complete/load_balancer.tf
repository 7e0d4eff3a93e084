# The load balancer, with the usual redirect from http to https as the default action of port 80.
# Nothing here listens on port 443: certloop makes that listener together with the first
# certificate.

resource "aws_security_group" "load_balancer" {
  name        = "${local.name}-load-balancer"
  description = "HTTP and HTTPS from anywhere: a certificate authority comes from any address"
  vpc_id      = aws_vpc.this.id
  tags        = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "web" {
  #checkov:skip=CKV_AWS_260:Authorities connect to port 80 from unpublished addresses
  for_each = { http = 80, https = 443 }

  security_group_id = aws_security_group.load_balancer.id
  description       = each.key
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
  tags              = local.tags
}

resource "aws_lb" "this" {
  #checkov:skip=CKV_AWS_91:Access logs need a bucket of their own, too much for an example
  #checkov:skip=CKV_AWS_150:An example must be easy to take away again
  #checkov:skip=CKV2_AWS_28:Everyone must reach the challenge path; nothing else needs protection
  name                       = local.name
  load_balancer_type         = "application"
  internal                   = false
  subnets                    = aws_subnet.public[*].id
  security_groups            = [aws_security_group.load_balancer.id]
  drop_invalid_header_fields = true
  tags                       = local.tags

  # The order matters for destroy, which goes backwards. The HTTPS listener does not belong to
  # Terraform and is deleted only with the load balancer. Until then AWS keeps the target group that
  # the listener forwards to. So the load balancer comes after the target group and is deleted
  # before it. In the same way, the addresses are released before the internet gateway is removed.
  depends_on = [aws_lb_target_group.site, aws_route_table.public]
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.this.arn
  port              = 80
  protocol          = "HTTP"
  tags              = local.tags

  default_action {
    type = "redirect"

    redirect {
      protocol    = "HTTPS"
      port        = "443"
      status_code = "HTTP_301"
    }
  }
}

resource "aws_route53_record" "site" {
  for_each = var.zone_id == null ? [] : toset(var.domains)

  zone_id = var.zone_id
  name    = each.key
  type    = "A"

  alias {
    name                   = aws_lb.this.dns_name
    zone_id                = aws_lb.this.zone_id
    evaluate_target_health = false
  }
}
