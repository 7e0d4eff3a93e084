# Two things start renew: the schedule, and a document written to certificates/. AWS repeats
# neither: the next pass comes in minutes and finds out what to do. Events that could not be
# delivered go to the queue, which has an alarm.

resource "aws_scheduler_schedule_group" "this" {
  name = var.name
  tags = local.tags
}

resource "aws_scheduler_schedule" "reconcile" {
  #checkov:skip=CKV_AWS_297:The schedule's input holds no secret
  name                = "${var.name}-reconcile"
  description         = "certloop: one pass over the certificates"
  group_name          = aws_scheduler_schedule_group.this.name
  schedule_expression = var.schedule

  flexible_time_window {
    mode                      = var.flexible_window_minutes == 0 ? "OFF" : "FLEXIBLE"
    maximum_window_in_minutes = var.flexible_window_minutes == 0 ? null : var.flexible_window_minutes
  }

  target {
    arn      = aws_lambda_function.renew.arn
    role_arn = aws_iam_role.schedule.arn
    input    = jsonencode({ action = "reconcile" })

    retry_policy {
      maximum_retry_attempts       = 0
      maximum_event_age_in_seconds = 60
    }

    dead_letter_config {
      arn = aws_sqs_queue.dead_letters.arn
    }
  }

  # The first pass must find everything it needs.
  depends_on = [aws_iam_role_policy.schedule, aws_s3_object.settings]
}

resource "aws_iam_role" "schedule" {
  name                 = "${var.name}-schedule"
  description          = "certloop: lets the schedule invoke renew"
  assume_role_policy   = data.aws_iam_policy_document.schedule_trust.json
  permissions_boundary = var.permissions_boundary
  tags                 = local.tags
}

data "aws_iam_policy_document" "schedule_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
    # Scheduler gives the ARN of the group, not of the schedule: hence our own group.
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:scheduler:${local.region}:${local.account}:schedule-group/${var.name}"]
    }
  }
}

resource "aws_iam_role_policy" "schedule" {
  name   = "schedule"
  role   = aws_iam_role.schedule.id
  policy = data.aws_iam_policy_document.schedule.json
}

data "aws_iam_policy_document" "schedule" {
  statement {
    sid       = "InvokeRenew"
    actions   = ["lambda:InvokeFunction"]
    resources = [local.function_arns.renew]
  }

  statement {
    sid       = "LeaveUndelivered"
    actions   = ["sqs:SendMessage"]
    resources = [local.queue_arn]
  }
}

resource "aws_cloudwatch_event_rule" "document" {
  name        = "${var.name}-document"
  description = "certloop: a document was written to certificates/"
  tags        = local.tags

  event_pattern = jsonencode({
    source      = ["aws.s3"]
    detail-type = ["Object Created"]
    detail = {
      bucket = { name = [local.bucket] }
      object = { key = [{ wildcard = "certificates/*.json" }] }
    }
  })
}

resource "aws_cloudwatch_event_target" "document" {
  rule = aws_cloudwatch_event_rule.document.name
  arn  = aws_lambda_function.renew.arn

  retry_policy {
    maximum_retry_attempts       = 0
    maximum_event_age_in_seconds = 60
  }

  dead_letter_config {
    arn = aws_sqs_queue.dead_letters.arn
  }

  depends_on = [aws_lambda_permission.document, aws_sqs_queue_policy.dead_letters]
}

resource "aws_lambda_permission" "document" {
  statement_id   = "document"
  action         = "lambda:InvokeFunction"
  function_name  = aws_lambda_function.renew.function_name
  principal      = "events.amazonaws.com"
  source_arn     = aws_cloudwatch_event_rule.document.arn
  source_account = local.account
}

# Two days: the alarm stays on while a message is there, and the next pass has long since done what
# was missed.
resource "aws_sqs_queue" "dead_letters" {
  name                      = "${var.name}-dead-letters"
  message_retention_seconds = 172800
  sqs_managed_sse_enabled   = true
  tags                      = local.tags
}

data "aws_iam_policy_document" "dead_letters" {
  statement {
    sid       = "LeaveUndelivered"
    actions   = ["sqs:SendMessage"]
    resources = [local.queue_arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [for rule in ["document", "expiring"] : "arn:${local.partition}:events:${local.region}:${local.account}:rule/${var.name}-${rule}"]
    }
  }

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [local.queue_arn]

    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_sqs_queue_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.id
  policy    = data.aws_iam_policy_document.dead_letters.json
}
