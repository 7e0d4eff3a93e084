# What is created, under which names, and what is rendered into the bucket. Planned with the real
# provider; its questions to AWS are answered below, so no credentials are needed.

provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

override_data {
  target = data.aws_caller_identity.current
  values = { account_id = "123456789012" }
}

override_data {
  target = data.aws_lb.this
  values = {
    arn                = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188"
    dns_name           = "web-1.eu-central-1.elb.amazonaws.com"
    load_balancer_type = "application"
  }
}

override_data {
  target = data.aws_lb_listener.http
  values = {
    arn      = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab2"
    protocol = "HTTP"
  }
}

override_data {
  target = data.aws_lb_listener.https
  values = {
    arn      = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/50dc6c495c0c9188/0123456789abcdef"
    protocol = "HTTPS"
  }
}

override_data {
  target = data.aws_lb_listener.target
  values = { protocol = "HTTPS" }
}

variables {
  packages                = "./tests/packages"
  contact                 = ["ops@example.com"]
  terms_of_service_agreed = true
}

run "five_variables_are_enough" {
  command = plan

  variables {
    load_balancers = { web = { name = "web" } }
    certificates   = { shop = { domains = ["shop.example.com"], targets = [{ type = "listener", arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab3" }] } }
  }

  assert {
    condition     = aws_s3_bucket.this.bucket == "certloop-123456789012-eu-central-1"
    error_message = "The bucket is called ${aws_s3_bucket.this.bucket}."
  }

  assert {
    condition = (
      output.routes["web"]
      == "http://web-1.eu-central-1.elb.amazonaws.com/.well-known/acme-challenge/certloop-probe"
    )
    error_message = "The address to try is ${jsonencode(output.routes)}."
  }

  assert {
    condition = (
      aws_lb_listener_rule.http["web"].priority == 1 &&
      one(one(aws_lb_listener_rule.http["web"].condition).path_pattern).values == toset(["/.well-known/acme-challenge/*"]) &&
      length(aws_lb_listener_rule.https) == 0
    )
    error_message = "The rule is another one."
  }

  assert {
    condition = (
      output.challenge_url == null &&
      length(aws_cloudformation_stack.function_url) == 0
    )
    error_message = "There is a public address that nobody asked for."
  }
}

run "everything_bears_the_environment_s_name" {
  command = plan

  variables {
    name           = "certloop-pre-production-eu-west"
    load_balancers = { web = { name = "web" } }
    function_url   = true
    pull           = { shop = ["arn:aws:iam::123456789012:role/nginx"] }
    tags           = { Team = "web" }
  }

  assert {
    condition = alltrue([
      for name in [
        aws_s3_bucket.this.bucket,
        aws_lambda_function.renew.function_name,
        aws_lambda_function.challenge.function_name,
        aws_iam_role.renew.name,
        aws_iam_role.challenge.name,
        aws_iam_role.schedule.name,
        aws_iam_role.expiring[0].name,
        aws_iam_policy.operate.name,
        aws_iam_policy.view.name,
        aws_iam_policy.edit.name,
        aws_iam_policy.doctor.name,
        aws_iam_policy.pull["shop"].name,
        aws_scheduler_schedule.reconcile.name,
        aws_scheduler_schedule_group.this.name,
        aws_cloudwatch_event_rule.document.name,
        aws_cloudwatch_event_rule.expiring[0].name,
        aws_sqs_queue.dead_letters.name,
        aws_sns_topic.this[0].name,
        aws_cloudwatch_dashboard.this.dashboard_name,
        aws_cloudformation_stack.function_url[0].name,
        trimprefix(aws_kms_alias.this[0].name, "alias/"),
        trimprefix(aws_cloudwatch_log_group.renew.name, "/aws/lambda/"),
        trimprefix(aws_cloudwatch_log_group.challenge.name, "/aws/lambda/"),
      ] : startswith(name, "certloop-pre-production-eu-west")
    ])
    error_message = "Something has a fixed name, and would collide with another environment."
  }

  # What ELB, S3 and IAM allow.
  assert {
    condition = (
      length(aws_s3_bucket.this.bucket) <= 63 &&
      length(aws_lb_target_group.challenge["web"].name) <= 32 &&
      length(aws_iam_role.challenge.name) <= 64
    )
    error_message = "A name is too long."
  }

  assert {
    condition = alltrue([
      for tags in [aws_s3_bucket.this.tags, aws_lambda_function.renew.tags, aws_kms_key.this[0].tags, aws_iam_role.renew.tags, aws_lb_listener_rule.http["web"].tags, aws_sqs_queue.dead_letters.tags] :
      tags["certloop"] == "certloop-pre-production-eu-west" && tags["Team"] == "web"
    ])
    error_message = "Something lacks the tags."
  }
}

run "target_groups_of_similar_names_differ" {
  command = plan

  variables {
    name           = "certloop-pre-production-one"
    load_balancers = { web = { name = "web" }, api = { name = "api" } }
  }

  assert {
    condition = (
      aws_lb_target_group.challenge["web"].name != aws_lb_target_group.challenge["api"].name &&
      aws_lb_target_group.challenge["web"].name != "${substr("certloop-pre-production-two", 0, 23)}-${substr(md5("certloop-pre-production-two/web"), 0, 8)}"
    )
    error_message = "Two target groups have one name."
  }
}

run "documents_are_rendered_as_they_are_given" {
  command = plan

  variables {
    settings = { proof = { mode = "require" }, defaults = { profile = "tlsserver" }, limits = null }
    certificates = {
      shop = {
        domains = ["shop.example.com", "www.shop.example.com"]
        targets = [{ type = "listener", arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab3", as = "default" }, { type = "certificateManager", region = "us-east-1" }]
        keyType = "rsa-2048"
        paused  = false
        tags    = { Team = "web" }
        profile = null
      }
      vault = { domains = ["münchen.example"], targets = [] }
    }
  }

  assert {
    condition = (
      aws_s3_object.settings.content
      == "{\"authorities\":{\"letsencrypt\":{\"contact\":[\"mailto:ops@example.com\"],\"directory\":\"https://acme-v02.api.letsencrypt.org/directory\",\"termsOfServiceAgreed\":true}},\"defaults\":{\"authority\":\"letsencrypt\",\"profile\":\"tlsserver\"},\"proof\":{\"mode\":\"require\"}}"
    )
    error_message = "settings.json: ${aws_s3_object.settings.content}"
  }

  assert {
    condition = (
      aws_s3_object.certificates["shop"].content
      == "{\"domains\":[\"shop.example.com\",\"www.shop.example.com\"],\"keyType\":\"rsa-2048\",\"paused\":false,\"tags\":{\"Team\":\"web\"},\"targets\":[{\"arn\":\"arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab3\",\"as\":\"default\",\"type\":\"listener\"},{\"region\":\"us-east-1\",\"type\":\"certificateManager\"}]}"
    )
    error_message = "certificates/shop.json: ${aws_s3_object.certificates["shop"].content}"
  }

  assert {
    condition = (
      aws_s3_object.certificates["shop"].key == "certificates/shop.json" &&
      aws_s3_object.certificates["vault"].content == "{\"domains\":[\"münchen.example\"],\"targets\":[]}"
    )
    error_message = "certificates/vault.json: ${aws_s3_object.certificates["vault"].content}"
  }
}

run "another_authority_beside_the_first" {
  command = plan

  variables {
    directory = "https://acme.example.com/dir"
    settings = {
      authorities = {
        letsencrypt = { rootCertificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n" }
        other       = { directory = "https://other.example.com/dir", termsOfServiceAgreed = true, contact = ["mailto:ops@example.com"] }
      }
      defaults = { authority = "other" }
    }
  }

  assert {
    condition = jsonencode(jsondecode(aws_s3_object.settings.content)) == jsonencode({
      authorities = {
        letsencrypt = { contact = ["mailto:ops@example.com"], directory = "https://acme.example.com/dir", rootCertificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", termsOfServiceAgreed = true }
        other       = { contact = ["mailto:ops@example.com"], directory = "https://other.example.com/dir", termsOfServiceAgreed = true }
      }
      defaults = { authority = "other" }
    })
    error_message = "settings.json: ${aws_s3_object.settings.content}"
  }
}

run "typed_documents_with_optional_fields_are_taken" {
  command = plan

  variables {
    certificates = {
      shop = { domains = ["shop.example.com"], authority = null, profile = null, keyType = null, validation = null, partial = null, paused = null, supersedes = null, tags = null, targets = [{ type = "certificateManager", arn = null, loadBalancer = null, forward = null, port = null, tlsPolicy = null, as = null, region = null }] }
    }
  }

  assert {
    condition = (
      aws_s3_object.certificates["shop"].content
      == "{\"domains\":[\"shop.example.com\"],\"targets\":[{\"type\":\"certificateManager\"}]}"
    )
    error_message = "certificates/shop.json: ${aws_s3_object.certificates["shop"].content}"
  }
}

# A list of one type has every field on every target, so a target that is not a listener has a null
# arn.
run "a_typed_target_that_is_no_listener_is_not_looked_up" {
  command = plan

  variables {
    certificates = { shop = { domains = ["shop.example.com"], targets = [{ type = "certificateManager", arn = null, as = null }, { type = "listener", arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab3", as = "sni" }] } }
  }

  assert {
    condition     = keys(data.aws_lb_listener.target) == ["shop.targets[1]"]
    error_message = "Looked up: ${jsonencode(keys(data.aws_lb_listener.target))}."
  }
}

run "of_another_region_s_listeners_none_is_looked_up" {
  command = plan

  variables {
    look_up_listeners = false
    certificates      = { shop = { domains = ["shop.example.com"], targets = [{ type = "listener", arn = "arn:aws:elasticloadbalancing:us-east-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab3" }] } }
  }

  assert {
    condition     = length(data.aws_lb_listener.target) == 0 && length(local.listener_arns) == 1
    error_message = "Looked up: ${jsonencode(keys(data.aws_lb_listener.target))}."
  }
}

run "a_plan_sees_what_somebody_else_wrote" {
  command = plan

  variables {
    certificates = { shop = { domains = ["münchen.example"], targets = [] } }
  }

  assert {
    condition = (
      aws_s3_object.settings.etag == md5(aws_s3_object.settings.content) &&
      aws_s3_object.certificates["shop"].etag == md5(aws_s3_object.certificates["shop"].content)
    )
    error_message = "An ETag is not that of the content."
  }
}

run "of_many_listeners_fifty_are_looked_up" {
  command = plan

  variables {
    certificates = {
      for n in range(80) : "customer-${n}" => {
        domains = ["customer-${n}.example.com"]
        targets = [{ type = "listener", arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab3" }]
      }
    }
  }

  assert {
    condition = (
      length(data.aws_lb_listener.target) == 50 &&
      length(aws_s3_object.certificates) == 80 &&
      length(local.listener_arns) == 1
    )
    error_message = "Looked up: ${length(data.aws_lb_listener.target)}."
  }
}

run "routes_are_put_where_they_are_wanted" {
  command = plan

  variables {
    load_balancers = {
      web   = { name = "web", https = true, https_priority = 7, priority = 3 }
      quiet = { arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/quiet/0123456789abcdef", challenge = false }
    }
  }

  assert {
    condition = (
      keys(aws_lb_listener_rule.http) == ["web"] &&
      keys(aws_lb_listener_rule.https) == ["web"] &&
      keys(aws_lb_target_group.challenge) == ["web"]
    )
    error_message = "There are other rules."
  }

  assert {
    condition = (
      aws_lb_listener_rule.http["web"].priority == 3 &&
      aws_lb_listener_rule.https["web"].priority == 7
    )
    error_message = "The rules have other priorities."
  }
}

run "a_function_url_needs_both_permissions" {
  command = plan

  variables {
    function_url = true
  }

  assert {
    condition = jsonencode([
      for resource in values(jsondecode(aws_cloudformation_stack.function_url[0].template_body).Resources) : [resource.Type, resource.Properties.Action, resource.Properties.Principal, try(resource.Properties.FunctionUrlAuthType, null), try(resource.Properties.InvokedViaFunctionUrl, null)]
      ]) == jsonencode([
      ["AWS::Lambda::Permission", "lambda:InvokeFunction", "*", null, true],
      ["AWS::Lambda::Permission", "lambda:InvokeFunctionUrl", "*", "NONE", null],
    ])
    error_message = "Something else: ${aws_cloudformation_stack.function_url[0].template_body}"
  }
}

run "renew_is_run_by_the_schedule_and_by_documents_and_never_retried" {
  command = plan

  assert {
    condition = (
      aws_scheduler_schedule.reconcile.schedule_expression == "rate(10 minutes)" &&
      aws_scheduler_schedule.reconcile.flexible_time_window[0].mode == "FLEXIBLE" &&
      aws_scheduler_schedule.reconcile.flexible_time_window[0].maximum_window_in_minutes == 5 &&
      aws_scheduler_schedule.reconcile.target[0].input == "{\"action\":\"reconcile\"}"
    )
    error_message = "The schedule is another one."
  }

  assert {
    condition = (
      aws_scheduler_schedule.reconcile.target[0].retry_policy[0].maximum_retry_attempts == 0 &&
      aws_lambda_function_event_invoke_config.renew.maximum_retry_attempts == 0 &&
      aws_cloudwatch_event_target.document.retry_policy[0].maximum_retry_attempts == 0
    )
    error_message = "Something is retried."
  }

  assert {
    condition = jsonencode(jsondecode(aws_cloudwatch_event_rule.document.event_pattern)) == jsonencode({
      detail      = { bucket = { name = ["certloop-123456789012-eu-central-1"] }, object = { key = [{ wildcard = "certificates/*.json" }] } }
      detail-type = ["Object Created"]
      source      = ["aws.s3"]
    })
    error_message = "The rule's pattern is ${aws_cloudwatch_event_rule.document.event_pattern}"
  }

  assert {
    condition = (
      aws_lambda_alias.view.name == "view" &&
      aws_lambda_alias.view.function_version == "$LATEST"
    )
    error_message = "The alias is another one."
  }
}

run "keys_of_longer_lifetimes_are_kept_longer" {
  command = plan

  variables {
    vault_days = 900
  }

  assert {
    condition = (
      one([for rule in aws_s3_bucket_lifecycle_configuration.this.rule : rule.expiration[0].days if rule.id == "forgotten-keys"])
      == 900
    )
    error_message = "The rules are others."
  }
}

run "a_window_of_zero_is_none" {
  command = plan

  variables {
    flexible_window_minutes = 0
    schedule                = "rate(30 minutes)"
  }

  assert {
    condition     = aws_scheduler_schedule.reconcile.flexible_time_window[0].mode == "OFF"
    error_message = "There is a window."
  }
}

run "the_bucket_is_private_and_tidied" {
  command = plan

  assert {
    condition = (
      alltrue([for value in [aws_s3_bucket_public_access_block.this.block_public_acls, aws_s3_bucket_public_access_block.this.block_public_policy, aws_s3_bucket_public_access_block.this.ignore_public_acls, aws_s3_bucket_public_access_block.this.restrict_public_buckets] : value]) &&
      aws_s3_bucket_ownership_controls.this.rule[0].object_ownership == "BucketOwnerEnforced" &&
      aws_s3_bucket_notification.this.eventbridge
    )
    error_message = "The bucket is not private, or tells nobody of its objects."
  }

  assert {
    condition = jsonencode({
      for rule in aws_s3_bucket_lifecycle_configuration.this.rule : rule.filter[0].prefix => [coalesce(try(rule.expiration[0].days, null), 0), try(rule.noncurrent_version_expiration[0].noncurrent_days, null)]
      }) == jsonencode({
      ""            = [0, 90]
      "accounts/"   = [0, 1]
      "challenges/" = [1, 1]
      "vault/"      = [400, 1]
    })
    error_message = "The rules are others: ${jsonencode(aws_s3_bucket_lifecycle_configuration.this.rule)}"
  }

  assert {
    condition     = aws_sqs_queue.dead_letters.message_retention_seconds == 172800
    error_message = "A message keeps its alarm on for ${aws_sqs_queue.dead_letters.message_retention_seconds} s."
  }

  assert {
    condition     = length(aws_s3_bucket_versioning.this) == 0 && !aws_s3_bucket.this.force_destroy
    error_message = "Older versions are kept, or destroy empties the bucket, without being asked to."
  }
}

run "every_alarm_says_what_to_do" {
  command = plan

  variables {
    alarms = { imports_per_year = 1000, certificates_per_listener = 100 }
  }

  assert {
    condition = jsonencode({
      for key, alarm in aws_cloudwatch_metric_alarm.renew : key => "${alarm.metric_name} ${alarm.statistic} ${alarm.comparison_operator} ${alarm.threshold} ${alarm.treat_missing_data} ${alarm.dimensions.Function}"
      }) == jsonencode({
      failing   = "Failing Minimum GreaterThanThreshold 0 ignore certloop-renew"
      imports   = "ImportsThisYear Maximum GreaterThanThreshold 800 ignore certloop-renew"
      lifetime  = "LifetimeLeftShare Minimum LessThanThreshold 0.25 ignore certloop-renew"
      listeners = "ListenerCertificates Maximum GreaterThanOrEqualToThreshold 80 ignore certloop-renew"
      messages  = "MessagesFailed Maximum GreaterThanThreshold 0 notBreaching certloop-renew"
      passes    = "Passes Sum LessThanThreshold 1 breaching certloop-renew"
      person    = "NeedsPerson Maximum GreaterThanThreshold 0 ignore certloop-renew"
      strays    = "Strays Maximum GreaterThanThreshold 0 ignore certloop-renew"
      unproved  = "Unproved Maximum GreaterThanThreshold 0 ignore certloop-renew"
      unserved  = "Unserved Maximum GreaterThanThreshold 0 ignore certloop-renew"
    })
    error_message = "The alarms are others."
  }

  assert {
    condition = (
      [for key in ["failing", "unserved"] : aws_cloudwatch_metric_alarm.renew[key].period * aws_cloudwatch_metric_alarm.renew[key].evaluation_periods]
      == [7200, 3600]
    )
    error_message = join(" ", [
      "The alarm on failures does not ring after two hours, or the one on what is not served not",
      "one hour after its day.",
    ])
  }

  assert {
    condition = jsonencode({
      comparison = "${aws_cloudwatch_metric_alarm.managed[0].comparison_operator} ${aws_cloudwatch_metric_alarm.managed[0].threshold}"
      periods    = [aws_cloudwatch_metric_alarm.managed[0].datapoints_to_alarm, aws_cloudwatch_metric_alarm.managed[0].evaluation_periods]
      expression = [for query in aws_cloudwatch_metric_alarm.managed[0].metric_query : query.expression if query.return_data == true]
      metrics    = [for query in aws_cloudwatch_metric_alarm.managed[0].metric_query : "${query.metric[0].metric_name} ${query.metric[0].stat} ${query.metric[0].period}" if length(query.metric) > 0]
      }) == jsonencode({
      comparison = "LessThanOrEqualToThreshold -1"
      periods    = [1, 24]
      expression = ["DIFF(FILL(managed, REPEAT))"]
      metrics    = ["CertificatesManaged Maximum 3600"]
    })
    error_message = join(" ", [
      "The alarm on fewer certificates is another one:",
      jsonencode(aws_cloudwatch_metric_alarm.managed[0].metric_query),
    ])
  }

  # The right to look must not be the right to raise an alarm.
  assert {
    condition = jsonencode({
      for key, alarm in aws_cloudwatch_metric_alarm.errors : key => sort([
        for query in alarm.metric_query : try("${query.metric[0].metric_name} ${jsonencode(query.metric[0].dimensions)}", query.expression)
      ])
      }) == jsonencode({
      challenge = ["Errors {\"FunctionName\":\"certloop-challenge\"}", "FILL(all, 0)"]
      renew = [
        "Errors {\"FunctionName\":\"certloop-renew\",\"Resource\":\"certloop-renew:view\"}",
        "Errors {\"FunctionName\":\"certloop-renew\"}",
        "FILL(all, 0) - FILL(viewed, 0)",
      ]
    })
    error_message = join(" ", [
      "Errors are counted in another way:",
      "${jsonencode({ for key, alarm in aws_cloudwatch_metric_alarm.errors : key => alarm.metric_query })}",
    ])
  }

  assert {
    condition = (
      aws_cloudwatch_metric_alarm.denied[0].datapoints_to_alarm == 2 &&
      aws_cloudwatch_metric_alarm.denied[0].evaluation_periods == 3 &&
      startswith(aws_cloudwatch_metric_alarm.denied[0].alarm_description, "If the names lead here at all")
    )
    error_message = "A first deployment, whose names do not lead there yet, would raise an alarm."
  }

  assert {
    condition = alltrue([
      for description in concat(
        values(aws_cloudwatch_metric_alarm.renew)[*].alarm_description,
        values(aws_cloudwatch_metric_alarm.errors)[*].alarm_description,
        values(aws_cloudwatch_metric_alarm.throttles)[*].alarm_description,
        aws_cloudwatch_metric_alarm.dead_letters[*].alarm_description,
        aws_cloudwatch_metric_alarm.denied[*].alarm_description,
        aws_cloudwatch_metric_alarm.managed[*].alarm_description,
      ) : strcontains(description, "aws ") && length(description) <= 1024
    ])
    error_message = "An alarm names no command to run, or is longer than CloudWatch accepts."
  }

  assert {
    condition = jsonencode(jsondecode(aws_cloudwatch_event_rule.expiring[0].event_pattern)) == jsonencode({
      detail      = { DaysToExpiry = [{ numeric = ["<=", 1] }] }
      detail-type = ["ACM Certificate Approaching Expiration"]
      source      = ["aws.acm"]
    })
    error_message = "The rule's pattern is ${aws_cloudwatch_event_rule.expiring[0].event_pattern}"
  }

  assert {
    condition     = length(jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets) == 9
    error_message = "The dashboard lacks something."
  }
}

run "alarms_can_be_left_out" {
  command = plan

  variables {
    alarms   = { enabled = false }
    schedule = "rate(1 hour)"
  }

  assert {
    condition = (
      length(aws_cloudwatch_metric_alarm.renew) + length(aws_cloudwatch_metric_alarm.errors) + length(aws_cloudwatch_metric_alarm.throttles) + length(aws_cloudwatch_metric_alarm.dead_letters) + length(aws_cloudwatch_metric_alarm.denied) + length(aws_cloudwatch_metric_alarm.managed) + length(aws_cloudwatch_event_rule.expiring)
      == 0
    )
    error_message = "There are alarms."
  }
}

run "where_documents_come_and_go_only_a_larger_fall_rings" {
  command = plan

  variables {
    alarms = { managed_fall = 50 }
  }

  assert {
    condition = (
      aws_cloudwatch_metric_alarm.managed[0].threshold == -50 &&
      strcontains(aws_cloudwatch_metric_alarm.managed[0].alarm_description, "at least 50 certificates fewer")
    )
    error_message = "It rings at ${aws_cloudwatch_metric_alarm.managed[0].threshold}."
  }
}

run "a_fall_need_not_ring" {
  command = plan

  variables {
    alarms = { managed_fall = 0 }
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.managed) == 0
    error_message = "It rings."
  }
}

run "an_existing_topic_is_used" {
  command = plan

  variables {
    topic_arn = "arn:aws:sns:eu-central-1:123456789012:ops"
  }

  assert {
    condition = (
      length(aws_sns_topic.this) == 0 &&
      aws_cloudwatch_metric_alarm.renew["passes"].alarm_actions == toset(["arn:aws:sns:eu-central-1:123456789012:ops"]) &&
      output.topic_arn == "arn:aws:sns:eu-central-1:123456789012:ops"
    )
    error_message = "Alarms go elsewhere."
  }
}

# No plan shows an order, so this test reads it from the configuration.
run "what_a_pass_needs_is_there_before_it_is_started" {
  command = plan

  assert {
    condition = var.terms_of_service_agreed && alltrue([
      for needed in ["aws_s3_object.settings", "aws_s3_bucket_policy.this", "aws_s3_bucket_notification.this", "aws_cloudwatch_event_target.document", "aws_lambda_function_event_invoke_config.renew", "aws_lb_listener_rule.http", "aws_lb_listener_rule.https", "aws_cloudformation_stack.function_url"] :
      strcontains(regex("(?s)resource \"aws_s3_object\" \"certificates\".*", file("./documents.tf")), needed)
    ])
    error_message = "A document could be written before what its pass needs."
  }

  assert {
    condition = var.terms_of_service_agreed && alltrue([
      for needed in ["aws_lambda_function.renew", "aws_lambda_function.challenge"] :
      strcontains(regex("(?s)resource \"aws_s3_object\" \"settings\".*?\n}", file("./documents.tf")), needed)
    ])
    error_message = "Settings could be written before the function that understands them."
  }

  assert {
    condition = (
      var.terms_of_service_agreed &&
      strcontains(regex("(?s)resource \"aws_lb_target_group_attachment\" \"challenge\".*?\n}", file("./load_balancers.tf")), "depends_on = [aws_lambda_permission.load_balancer]") &&
      strcontains(regex("(?s)resource \"aws_scheduler_schedule\" \"reconcile\".*?\n}", file("./schedule.tf")), "aws_s3_object.settings")
    )
    error_message = join(" ", [
      "A target could be registered before its permission, or the schedule fire before there are",
      "settings.",
    ])
  }
}

# No plan shows the tags of an object that has none, so this test reads the configuration too.
run "objects_take_no_default_tags" {
  command = plan

  assert {
    condition = (
      var.terms_of_service_agreed &&
      length(regexall("resource \"aws_s3_object\" ", file("./documents.tf"))) == length(regexall("override_provider {\n    default_tags {\n      tags = {}\n", file("./documents.tf")))
    )
    error_message = "A provider's default tags could be more than the ten that S3 accepts on an object."
  }
}
