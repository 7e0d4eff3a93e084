output "bucket" {
  description = "Name of the bucket."
  value       = aws_s3_bucket.this.id
}

output "region" {
  description = "Region of all resources."
  value       = local.region
}

output "renew_function" {
  description = "Name of the function that renews."
  value       = aws_lambda_function.renew.function_name
}

output "renew_function_arn" {
  description = "ARN of the function that renews."
  value       = aws_lambda_function.renew.arn
}

output "view_alias_arn" {
  description = "ARN by which renew only reads: status, plan and check."
  value       = aws_lambda_alias.view.arn
}

output "challenge_function" {
  description = "Name of the function that answers challenges."
  value       = aws_lambda_function.challenge.function_name
}

output "challenge_function_arn" {
  description = "ARN of the function that answers challenges."
  value       = aws_lambda_function.challenge.arn
}

output "challenge_url" {
  description = "Public address of the function that answers challenges, or null."
  value       = one(aws_lambda_function_url.challenge[*].function_url)
}

output "target_group_arns" {
  description = "Target group of challenge per load balancer, by label."
  value       = { for label, group in aws_lb_target_group.challenge : label => group.arn }
}

output "schedule_name" {
  description = "Name of the schedule."
  value       = aws_scheduler_schedule.reconcile.name
}

output "schedule_group" {
  description = "Name of the schedule's group."
  value       = aws_scheduler_schedule_group.this.name
}

output "topic_arn" {
  description = "ARN of the topic for alarms, and for messages with message_topic."
  value       = local.topic_arn
}

output "dead_letter_queue_url" {
  description = "URL of the queue of invocations that could not be delivered."
  value       = aws_sqs_queue.dead_letters.url
}

output "operate_policy_arn" {
  description = "ARN of the policy to invoke renew with every action, and to write documents."
  value       = aws_iam_policy.operate.arn
}

output "edit_policy_arn" {
  description = "ARN of the policy to read and write documents, for programs that add certificates."
  value       = aws_iam_policy.edit.arn
}

output "doctor_policy_arn" {
  description = "ARN of the policy to look at the installation, for certloop doctor."
  value       = aws_iam_policy.doctor.arn
}

output "view_policy_arn" {
  description = "ARN of the policy to ask renew for status, plan and check."
  value       = aws_iam_policy.view.arn
}

output "pull_policy_arns" {
  description = "ARNs of the policies to read one certificate with its private key, by its name."
  value       = { for name, policy in aws_iam_policy.pull : name => policy.arn }
}

output "renew_role_arn" {
  description = "ARN of renew's role."
  value       = aws_iam_role.renew.arn
}

output "challenge_role_arn" {
  description = "ARN of challenge's role."
  value       = aws_iam_role.challenge.arn
}

output "kms_key_arn" {
  description = "ARN of the key that encrypts secrets, or null."
  value       = local.kms_key_arn
}

output "dashboard_name" {
  description = "Name of the CloudWatch dashboard."
  value       = aws_cloudwatch_dashboard.this.dashboard_name
}

output "routes" {
  description = "Test address per load balancer. The answer must be 404 with x-content-type-options: nosniff: then the rule leads to challenge."
  value = {
    for label, it in local.challenge_routes :
    label => "http://${data.aws_lb.this[label].dns_name}${it.http_port == 80 ? "" : ":${it.http_port}"}/.well-known/acme-challenge/certloop-probe"
  }

  # A test address is useful only after there is a rule.
  depends_on = [aws_lb_listener_rule.http]
}
