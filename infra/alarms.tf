# Alarms, all to one topic. The description of each says what it means and what to do. Each decides
# what a missing value means. Values that describe a state (lowest share, failing, unproved, quotas)
# keep their last value ("ignore"). Events that did not happen are fine ("notBreaching"). A pass
# that did not happen is the alarm itself ("breaching").

locals {
  topic_arn = var.topic_arn != null ? var.topic_arn : one(aws_sns_topic.this[*].arn)
  alarms    = var.alarms.enabled ? 1 : 0
  ask_status = join(" ", [
    "Ask: echo '{\"action\":\"status\"}' | aws lambda invoke --region ${local.region}",
    "--function-name ${var.name}-renew:view --payload fileb:///dev/stdin status.json",
    "&& cat status.json",
  ])
  read_logs = "Read (AWS CLI 2): aws logs tail --region ${local.region} --since 1h /aws/lambda/${var.name}"

  # Written out, because it is also in settings.json and in renew's policy, and a first plan shows
  # both in full.
  message_topic_arn = var.topic_arn != null ? var.topic_arn : "arn:${local.partition}:sns:${local.region}:${local.account}:${var.name}-alarms"

  renew_alarms = {
    lifetime = {
      metric     = "LifetimeLeftShare"
      period     = 3600
      statistic  = "Minimum"
      comparison = "LessThanThreshold"
      threshold  = var.alarms.lifetime_share
      missing    = "ignore"
      description = join(" ", [
        "A certificate has less than ${var.alarms.lifetime_share * 100} % of its own lifetime",
        "left; certloop should have renewed it at a third. It is still served, so there is time.",
        local.ask_status,
      ])
    }
    person = {
      metric     = "NeedsPerson"
      period     = 3600
      statistic  = "Maximum"
      comparison = "GreaterThanThreshold"
      threshold  = 0
      missing    = "ignore"
      description = join(" ", [
        "A certificate cannot go on until a person acts. A document, a permission, a DNS record,",
        "the challenge path or the authority's account is wrong, or browsers do not trust the",
        "served certificate; a new attempt will not help. Its problem says what is wrong.",
        local.ask_status,
      ])
    }
    # A certificate without a first issuance has no share of a lifetime. It is counted here.
    unserved = {
      metric     = "Unserved"
      period     = 3600
      statistic  = "Maximum"
      comparison = "GreaterThanThreshold"
      threshold  = 0
      missing    = "ignore"
      description = join(" ", [
        "A certificate should have been served for a day, but is not: its first order or",
        "deployment keeps failing, or waits. Its problem says why. If you do not want the",
        "certificate, pause it or remove its document. ${local.ask_status}",
      ])
    }
    # The lowest number of each hour: the alarm rings when every pass of two hours found a failing
    # certificate. The metric Failed would not do: it counts only attempts of the pass itself, and
    # after a few failures our own waits leave a day between two attempts.
    failing = {
      metric      = "Failing"
      period      = 3600
      evaluations = 2
      statistic   = "Minimum"
      comparison  = "GreaterThanThreshold"
      threshold   = 0
      missing     = "ignore"
      description = join(" ", [
        "For two hours, every pass found a certificate whose last order, deployment or revocation",
        "had failed. certloop tries again by itself: after a minute at first, then less and less",
        "often, at last once a day. The served certificate stays. The problems say what fails.",
        local.ask_status,
      ])
    }
    # Counted at least once a day, and hourly while there is one.
    strays = {
      metric     = "Strays"
      period     = 3600
      statistic  = "Maximum"
      comparison = "GreaterThanThreshold"
      threshold  = 0
      missing    = "ignore"
      description = join(" ", [
        "ACM holds certificates that have the tag of this installation but are unknown in the",
        "bucket: nothing renews them. The bucket was emptied, or restored to another day. Restore",
        "documents and records (from the bucket's versions or a backup), or delete the",
        "certificates that nobody needs. To list them: aws resourcegroupstaggingapi get-resources",
        "--region ${local.region} --resource-type-filters acm:certificate --tag-filters",
        "Key=certloop:installation,Values=${local.bucket}; certloop status --unmanaged marks them.",
        "Counted once a day, and hourly while there are any.",
      ])
    }
    # Twice half an hour: the next pass checks again, and may then see a change that the load
    # balancer had not spread yet.
    unproved = {
      metric      = "Unproved"
      period      = 1800
      evaluations = 2
      statistic   = "Maximum"
      comparison  = "GreaterThanThreshold"
      threshold   = 0
      missing     = "ignore"
      description = join(" ", [
        "For an hour, no check has seen a listener serve the certificate that it was given. Look",
        "at what terminates TLS in front of it (CDN, proxy), at the listener and at its security",
        "group. ${local.ask_status}",
      ])
    }
    passes = {
      metric     = "Passes"
      period     = 3600
      statistic  = "Sum"
      comparison = "LessThanThreshold"
      threshold  = 1
      missing    = "breaching"
      description = join(" ", [
        "No full pass for an hour: nothing is renewed. The schedule is off, may not invoke renew,",
        "or every pass fails. Look at the schedule ${var.name}-reconcile and the queue",
        "${var.name}-dead-letters. ${local.read_logs}-renew",
      ])
    }
    imports = {
      metric     = "ImportsThisYear"
      period     = 3600
      statistic  = "Maximum"
      comparison = "GreaterThanThreshold"
      threshold  = floor(var.alarms.imports_per_year * 0.8)
      missing    = "ignore"
      description = join(" ", [
        "More than 80 % of the ${var.alarms.imports_per_year} imports that ACM allows in a year",
        "are used, by certloop's own count. At the quota, renewals can no longer be deployed. Ask",
        "AWS for a higher quota (Service Quotas, ACM, imported certificates in the last year).",
        local.ask_status,
      ])
    }
    listeners = {
      metric     = "ListenerCertificates"
      period     = 3600
      statistic  = "Maximum"
      comparison = "GreaterThanOrEqualToThreshold"
      threshold  = ceil(var.alarms.certificates_per_listener * 0.8)
      missing    = "ignore"
      description = join(" ", [
        "The fullest load balancer holds 80 % or more of the",
        "${var.alarms.certificates_per_listener} certificates that it may hold beside the",
        "defaults; AWS's quota is per load balancer. A full one accepts no new certificate, and no",
        "change to a new ARN. Put more names on a certificate, spread the certificates over load",
        "balancers, or ask AWS for a higher quota. ${local.ask_status}",
      ])
    }
    # Twice half an hour: after one failure the next pass sends to the channel again.
    messages = {
      metric      = "MessagesFailed"
      period      = 1800
      evaluations = 2
      statistic   = "Maximum"
      comparison  = "GreaterThanThreshold"
      threshold   = 0
      missing     = "notBreaching"
      description = join(" ", [
        "For an hour, messages to a channel of settings.notify failed. certloop still renews",
        "certificates, but nobody is notified there. The log says which channel and why: the",
        "topic, the bus, the webhook's secret or address, or renew's permission for it.",
        "${local.read_logs}-renew",
      ])
    }
  }

  functions = {
    renew     = aws_lambda_function.renew.function_name
    challenge = aws_lambda_function.challenge.function_name
  }
}

resource "aws_sns_topic" "this" {
  #checkov:skip=CKV_AWS_26:Messages carry no secret, and CloudWatch cannot use the AWS-managed key
  count = var.topic_arn == null ? 1 : 0
  name  = "${var.name}-alarms"
  tags  = local.tags
}

data "aws_iam_policy_document" "topic" {
  count = var.topic_arn == null ? 1 : 0

  statement {
    sid       = "Alarms"
    actions   = ["sns:Publish"]
    resources = ["arn:${local.partition}:sns:${local.region}:${local.account}:${var.name}-alarms"]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_sns_topic_policy" "this" {
  count  = length(aws_sns_topic.this)
  arn    = aws_sns_topic.this[0].arn
  policy = data.aws_iam_policy_document.topic[0].json
}

resource "aws_sns_topic_subscription" "email" {
  for_each  = var.topic_arn == null ? toset(var.alarm_emails) : []
  topic_arn = aws_sns_topic.this[0].arn
  protocol  = "email"
  endpoint  = each.value
}

resource "aws_cloudwatch_metric_alarm" "renew" {
  for_each            = var.alarms.enabled ? local.renew_alarms : {}
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = "certloop"
  metric_name         = each.value.metric
  dimensions          = { Function = aws_lambda_function.renew.function_name }
  statistic           = each.value.statistic
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  period              = each.value.period
  evaluation_periods  = try(each.value.evaluations, 1)
  treat_missing_data  = each.value.missing
  alarm_actions       = [local.topic_arn]
  ok_actions          = [local.topic_arn]
  tags                = local.tags
}

# Invocations through the alias view do not count: the right to look must not be the right to raise
# an alarm. Unknown events are no errors there anyway, but a caller could still provoke a timeout or
# an answer that is too long.
resource "aws_cloudwatch_metric_alarm" "errors" {
  for_each   = var.alarms.enabled ? local.functions : {}
  alarm_name = "${var.name}-${each.key}-errors"
  alarm_description = join(" ", [
    "${each.value} failed.",
    each.key != "renew" ? "The load balancer answered 502 for a challenge." : join(" ", [
      "The pass could not run at all (bucket, settings or credentials). Certificates that fail are",
      "not counted here, nor are invocations through the alias view.",
    ]),
    "${local.read_logs}-${each.key}",
  ])
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [local.topic_arn]
  ok_actions          = [local.topic_arn]
  tags                = local.tags

  metric_query {
    id          = "failed"
    label       = "Errors"
    expression  = each.key == "renew" ? "FILL(all, 0) - FILL(viewed, 0)" : "FILL(all, 0)"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = merge(
      { all = { FunctionName = each.value } },
      each.key == "renew" ? { viewed = { FunctionName = each.value, Resource = "${each.value}:${aws_lambda_alias.view.name}" } } : {},
    )

    content {
      id = metric_query.key

      metric {
        namespace   = "AWS/Lambda"
        metric_name = "Errors"
        dimensions  = metric_query.value
        stat        = "Sum"
        period      = 300
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "throttles" {
  for_each   = var.alarms.enabled ? local.functions : {}
  alarm_name = "${var.name}-${each.key}-throttles"
  alarm_description = join(" ", [
    "Lambda did not let ${each.value} run: the account's concurrent executions in ${local.region}",
    "are used up, or somebody reserved none for it. Check: aws lambda get-account-settings",
    "--region ${local.region}; aws lambda get-function-concurrency --region ${local.region}",
    "--function-name ${each.value}",
  ])
  namespace           = "AWS/Lambda"
  metric_name         = "Throttles"
  dimensions          = { FunctionName = each.value }
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [local.topic_arn]
  ok_actions          = [local.topic_arn]
  tags                = local.tags
}

# Fewer certificates from one hour to the next. It is a DIFF of one metric, because the expression
# of an alarm has one period: it cannot compare a day with an hour, and it cannot take the maximum
# of earlier hours. It takes the highest number of each hour, so a document that is deleted and
# written again within the hour is no fall. One of the last 24 hours is enough: the alarm rings for
# a day after a fall and clears by itself. An alarm of one hour would be over before anybody is
# awake.
resource "aws_cloudwatch_metric_alarm" "managed" {
  count      = var.alarms.enabled && var.alarms.managed_fall > 0 ? 1 : 0
  alarm_name = "${var.name}-managed"
  alarm_description = join(" ", [
    "There are documents for",
    var.alarms.managed_fall == 1 ? "fewer certificates" :
    "at least ${var.alarms.managed_fall} certificates fewer",
    "than an hour before: without a document nothing is renewed. Compare with what you expect: aws",
    "s3 ls s3://${local.bucket}/certificates/. If it was a mistake, restore the documents (the",
    "bucket's versions, a backup, Terraform); served certificates stay until they end. If it was",
    "intended, do nothing: this rings for a day after the last fall and clears by itself.",
    local.ask_status,
  ])
  comparison_operator = "LessThanOrEqualToThreshold"
  threshold           = -var.alarms.managed_fall
  evaluation_periods  = 24
  datapoints_to_alarm = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [local.topic_arn]
  ok_actions          = [local.topic_arn]
  tags                = local.tags

  metric_query {
    id          = "change"
    label       = "Certificates more than in the hour before"
    expression  = "DIFF(FILL(managed, REPEAT))"
    return_data = true
  }

  metric_query {
    id = "managed"

    metric {
      namespace   = "certloop"
      metric_name = "CertificatesManaged"
      dimensions  = { Function = aws_lambda_function.renew.function_name }
      stat        = "Maximum"
      period      = 3600
    }
  }
}

# A queue without use for six hours has no values at all.
resource "aws_cloudwatch_metric_alarm" "dead_letters" {
  count      = local.alarms
  alarm_name = "${var.name}-dead-letters"
  alarm_description = join(" ", [
    "The schedule or the rule could not invoke renew. Read a message's ERROR_MESSAGE: aws sqs",
    "receive-message --region ${local.region} --message-attribute-names All --queue-url $(aws sqs",
    "get-queue-url --region ${local.region} --queue-name ${var.name}-dead-letters --query QueueUrl",
    "--output text). Repair the cause, then purge the queue: the next pass does what was missed.",
  ])
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.dead_letters.name }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [local.topic_arn]
  ok_actions          = [local.topic_arn]
  tags                = local.tags
}

# S3 answers "denied" for every unknown token, because challenge may not list: any scanner can cause
# that. It matters when certificates fail and no challenge is answered in the same hour, in two of
# three hours. A first deployment looks the same for one hour: its names do not lead here yet, and
# its route is tested with an unknown token. The authority comes after 0, 1, 11 and 111 minutes and
# then daily, so three hours are looked at, not more.
resource "aws_cloudwatch_metric_alarm" "denied" {
  count      = local.alarms
  alarm_name = "${var.name}-challenges-denied"
  alarm_description = join(" ", [
    "If the names lead here at all: certificates fail, and in two of three hours the bucket denied",
    "every challenge. So challenge's role, the bucket's policy or CERTLOOP_BUCKET is wrong.",
    "${local.read_logs}-challenge",
  ])
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  treat_missing_data  = "notBreaching"
  alarm_actions       = [local.topic_arn]
  ok_actions          = [local.topic_arn]
  tags                = local.tags

  metric_query {
    id          = "denied_while_failing"
    label       = "Challenges denied while certificates fail"
    expression  = "IF(FILL(failing, 0) > 0 AND FILL(answered, 0) == 0, FILL(denied, 0), 0)"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = {
      answered = { metric = "ChallengeAnswered", function = aws_lambda_function.challenge.function_name }
      denied   = { metric = "ChallengeDenied", function = aws_lambda_function.challenge.function_name }
      failing  = { metric = "Failing", function = aws_lambda_function.renew.function_name }
    }

    content {
      id = metric_query.key

      metric {
        namespace   = "certloop"
        metric_name = metric_query.value.metric
        dimensions  = { Function = metric_query.value.function }
        stat        = "Sum"
        period      = 3600
      }
    }
  }
}

# This alarm does not depend on certloop: ACM itself reports, once a day, which certificates expire
# soon. Its events contain no tags, so they cover every certificate of the account in this region,
# ours or not. They contain the days left but not the lifetime, and a rule cannot calculate: a share
# would need a function. So the rule uses the one number that is right for all lifetimes. A healthy
# certificate never comes down to one day: one of 90 days is renewed with 30 left, one of six days
# with three. For six days, one day is about the quarter at which the alarm on LifetimeLeftShare
# rings. For 90 days it is late and only the second line of defence: by then that alarm has rung for
# three weeks, or the one on Passes for as long as nothing ran.
resource "aws_cloudwatch_event_rule" "expiring" {
  count = var.alarms.enabled && var.alarms.approaching_expiration_days > 0 ? 1 : 0
  name  = "${var.name}-expiring"
  description = join(" ", [
    "certloop: ACM says that a certificate expires within",
    "${var.alarms.approaching_expiration_days} days",
  ])
  tags = local.tags

  event_pattern = jsonencode({
    source      = ["aws.acm"]
    detail-type = ["ACM Certificate Approaching Expiration"]
    detail      = { DaysToExpiry = [{ numeric = ["<=", var.alarms.approaching_expiration_days] }] }
  })
}

resource "aws_cloudwatch_event_target" "expiring" {
  count    = length(aws_cloudwatch_event_rule.expiring)
  rule     = aws_cloudwatch_event_rule.expiring[0].name
  arn      = local.topic_arn
  role_arn = aws_iam_role.expiring[0].arn

  input_transformer {
    input_paths = {
      arn  = "$.resources[0]"
      days = "$.detail.DaysToExpiry"
      name = "$.detail.CommonName"
    }
    input_template = join(" ", [
      "\"The certificate <arn> (<name>) expires in <days> days, says ACM. If its tag",
      "certloop:installation is ${local.bucket}, it should have been renewed: ask renew for its",
      "status. If not, it belongs to somebody else.\"",
    ])
  }

  # Without the queue, nobody would notice what the topic refuses: the queue has an alarm.
  dead_letter_config {
    arn = aws_sqs_queue.dead_letters.arn
  }

  depends_on = [aws_iam_role_policy.expiring, aws_sqs_queue_policy.dead_letters, aws_sns_topic_policy.this]
}

# A role is needed, because the topic's policy can have no condition for EventBridge. EventBridge
# gives SNS neither aws:SourceAccount nor aws:SourceArn, so a rule of any account could publish.
# When EventBridge assumes a role, it gives both.
resource "aws_iam_role" "expiring" {
  count                = length(aws_cloudwatch_event_rule.expiring)
  name                 = "${var.name}-expiring"
  description          = "certloop: lets the rule on certificates that expire publish to the topic"
  assume_role_policy   = data.aws_iam_policy_document.expiring_trust.json
  permissions_boundary = var.permissions_boundary
  tags                 = local.tags
}

data "aws_iam_policy_document" "expiring_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:events:${local.region}:${local.account}:rule/${var.name}-expiring"]
    }
  }
}

resource "aws_iam_role_policy" "expiring" {
  count  = length(aws_iam_role.expiring)
  name   = "expiring"
  role   = aws_iam_role.expiring[0].id
  policy = data.aws_iam_policy_document.expiring.json
}

data "aws_iam_policy_document" "expiring" {
  statement {
    sid       = "TellWhatExpires"
    actions   = ["sns:Publish"]
    resources = [local.message_topic_arn]
  }
}
