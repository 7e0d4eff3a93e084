output "renew_function" {
  description = "Name of the function that keeps the certificates; it answers all requests."
  value       = module.certloop.renew_function
}

output "renew_function_arn" {
  description = "ARN of that function."
  value       = module.certloop.renew_function_arn
}

output "bucket" {
  description = "Name of the bucket with the documents: others may add certificates/<name>.json there."
  value       = module.certloop.bucket
}

output "region" {
  description = "Region of function and bucket."
  value       = module.certloop.region
}

output "routes" {
  description = "Test address per load balancer. The answer must be 404 with `x-content-type-options: nosniff`: then the challenge route works."
  value       = module.certloop.routes
}

output "dashboard" {
  description = "Name of the CloudWatch dashboard."
  value       = module.certloop.dashboard_name
}

output "policies" {
  description = "Policies to attach to people and pipelines."
  value = {
    doctor  = module.certloop.doctor_policy_arn
    edit    = module.certloop.edit_policy_arn
    operate = module.certloop.operate_policy_arn
    view    = module.certloop.view_policy_arn
  }
}

output "load_balancer_dns_name" {
  description = "Where the domains must point, unless zone_id was given."
  value       = aws_lb.this.dns_name
}

output "load_balancer_arn" {
  description = "The load balancer."
  value       = aws_lb.this.arn
}

output "site_target_group_arn" {
  description = "The target group that the HTTPS listener forwards to."
  value       = aws_lb_target_group.site.arn
}
