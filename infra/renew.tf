# renew: one pass over the certificates. Its role allows the calls that the code makes and no
# others; README.md gives the reason for each statement.

locals {
  packages = coalesce(var.packages, "${path.module}/../target/package")

  # Certificates are imported in the region of their targets, so in any region of this account.
  acm_certificates = "arn:${local.partition}:acm:*:${local.account}:certificate/*"

  # Load balancers from the variable, and those of the given documents, named by a listener's ARN or
  # by their own.
  documented_targets = flatten([for document in values(var.certificates) : [for target in document.targets : target]])
  load_balancer_arns = distinct(concat(
    [for label in sort(keys(var.load_balancers)) : data.aws_lb.this[label].arn],
    [for target in local.documented_targets : replace(target.arn, "/:listener\\/(app\\/[^\\/]+\\/[^\\/]+)\\/.*$/", ":loadbalancer/$1") if try(target.arn, null) != null],
    [for target in local.documented_targets : target.loadBalancer if try(target.loadBalancer, null) != null],
  ))
  listener_arns = [for arn in local.load_balancer_arns : "${replace(arn, ":loadbalancer/", ":listener/")}/*"]

  # Counted as IAM counts: without white space. Each load balancer is in the policy three times.
  renew_policy_size       = length(jsonencode(jsondecode(data.aws_iam_policy_document.renew.json)))
  load_balancer_size      = sum(concat([0], [for arn in local.load_balancer_arns : 3 * length(arn) + 9]))
  load_balancers_that_fit = floor((10240 - local.renew_policy_size + local.load_balancer_size) / max(1, local.load_balancer_size) * length(local.load_balancer_arns))

  # A bare name is a bus of this account and region.
  event_bus     = try(local.settings.notify.eventBus, null)
  event_bus_arn = local.event_bus == null ? null : startswith(local.event_bus, "arn:") ? local.event_bus : "arn:${local.partition}:events:${local.region}:${local.account}:event-bus/${local.event_bus}"

  secret_arns = distinct(concat(
    [for authority in values(local.settings.authorities) : authority.externalAccount.secretArn if try(authority.externalAccount.secretArn, null) != null],
    [for webhook in try(local.settings.notify.webhooks, []) : webhook.secretArn],
  ))
}

resource "aws_cloudwatch_log_group" "renew" {
  #checkov:skip=CKV_AWS_158:Logs hold no secrets; CloudWatch encrypts them with its own key
  #checkov:skip=CKV_AWS_338:The retention is a variable; the state of a certificate has its history
  name              = "/aws/lambda/${var.name}-renew"
  retention_in_days = var.log_retention_days
  tags              = local.tags
}

resource "aws_lambda_function" "renew" {
  #checkov:skip=CKV_AWS_50:Nothing is traced: a pass logs each of its steps
  #checkov:skip=CKV_AWS_115:Leases separate passes; a reservation takes the account's concurrency
  #checkov:skip=CKV_AWS_116:Undelivered events go to the queue; the next pass repeats a failed one
  #checkov:skip=CKV_AWS_117:It must reach the authority and the names; a VPC needs a NAT gateway
  #checkov:skip=CKV_AWS_173:The environment holds no secrets
  #checkov:skip=CKV_AWS_272:Packages have checksums; a signing profile belongs to the account
  function_name    = "${var.name}-renew"
  description      = "certloop: orders, deploys and proves the certificates that are due"
  role             = aws_iam_role.renew.arn
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]
  filename         = "${local.packages}/renew-${var.architecture}.zip"
  source_code_hash = filebase64sha256("${local.packages}/renew-${var.architecture}.zip")
  memory_size      = var.renew_memory
  timeout          = var.renew_timeout
  tags             = local.tags

  environment {
    variables = merge(
      var.environment,
      { CERTLOOP_BUCKET = local.bucket },
      var.kms ? { CERTLOOP_KMS_KEY_ARN = local.kms_key_arn } : {},
    )
  }

  # Lambda would make a log group that is kept for ever, and a pass without permissions for it would
  # report a failure.
  depends_on = [aws_cloudwatch_log_group.renew, aws_iam_role_policy.renew]
}

# The next pass comes in minutes, and every pass finds out for itself what to do.
resource "aws_lambda_function_event_invoke_config" "renew" {
  function_name          = aws_lambda_function.renew.function_name
  maximum_retry_attempts = 0
}

# Invoked by this name, renew answers status, plan and check, and refuses everything that changes
# something.
resource "aws_lambda_alias" "view" {
  name             = "view"
  description      = "Read-only: status, plan and check"
  function_name    = aws_lambda_function.renew.function_name
  function_version = "$LATEST"
}

data "aws_iam_policy_document" "lambda_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

# People who run a pass without the function use its role, with no other permissions.
data "aws_iam_policy_document" "renew_trust" {
  source_policy_documents = [data.aws_iam_policy_document.lambda_trust.json]

  dynamic "statement" {
    for_each = length(var.local_operators) > 0 ? [var.local_operators] : []

    content {
      sid     = "LocalOperators"
      actions = ["sts:AssumeRole"]

      principals {
        type        = "AWS"
        identifiers = statement.value
      }
    }
  }
}

resource "aws_iam_role" "renew" {
  name                 = "${var.name}-renew"
  description          = "certloop: what renew may do"
  assume_role_policy   = data.aws_iam_policy_document.renew_trust.json
  permissions_boundary = var.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "renew" {
  name   = "renew"
  role   = aws_iam_role.renew.id
  policy = data.aws_iam_policy_document.renew.json

  lifecycle {
    precondition {
      condition = local.renew_policy_size <= 10240
      error_message = join(" ", [
        "load_balancers: with ${length(local.load_balancer_arns)} load balancers, including those",
        "that certificates name, renew's policy has ${local.renew_policy_size} characters, and IAM",
        "accepts 10240: about ${local.load_balancers_that_fit} fit. Give the others to a second",
        "installation with another name.",
      ])
    }
  }
}

data "aws_iam_policy_document" "renew" {
  #checkov:skip=CKV_AWS_111:Writes are limited to this bucket, our tag and the named load balancers
  #checkov:skip=CKV_AWS_356:ListCertificates and ELB's Describe calls know no resource but "*"

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${local.log_group_arns.renew}:*"]
  }

  statement {
    sid     = "ReadObjects"
    actions = ["s3:GetObject"]
    resources = [
      "${local.bucket_arn}/settings.json",
      "${local.bucket_arn}/certificates/*",
      "${local.bucket_arn}/state/*",
      "${local.bucket_arn}/accounts/*",
      "${local.bucket_arn}/limits/*",
      "${local.bucket_arn}/vault/*",
    ]
  }

  statement {
    sid     = "WriteObjects"
    actions = ["s3:PutObject"]
    resources = [
      "${local.bucket_arn}/certificates/*",
      "${local.bucket_arn}/state/*",
      "${local.bucket_arn}/accounts/*",
      "${local.bucket_arn}/limits/*",
      "${local.bucket_arn}/vault/*",
      "${local.bucket_arn}/challenges/*",
    ]
  }

  statement {
    sid     = "DeleteObjects"
    actions = ["s3:DeleteObject"]
    # After a removal renew deletes everything: the document at once, the record and the vault a
    # week later.
    resources = [
      "${local.bucket_arn}/certificates/*",
      "${local.bucket_arn}/state/*",
      "${local.bucket_arn}/vault/*",
      "${local.bucket_arn}/challenges/*",
    ]
  }

  # With this permission S3 also answers 404 for a missing object. A 403 would mean "could not
  # tell", and nothing would ever be issued. For that check S3 uses the object's key as the prefix.
  # The condition has IfExists, so that it also works without a prefix.
  statement {
    sid       = "ListObjects"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn]

    condition {
      test     = "StringLikeIfExists"
      variable = "s3:prefix"
      values   = ["settings.json", "certificates/*", "state/*", "accounts/*", "limits/*", "vault/*"]
    }
  }

  dynamic "statement" {
    for_each = var.kms ? [local.kms_key_arn] : []

    content {
      sid       = "EncryptSecrets"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [statement.value]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = [local.s3_service]
      }
      condition {
        test     = "StringLike"
        variable = "kms:EncryptionContext:aws:s3:arn"
        values   = local.secret_objects
      }
    }
  }

  dynamic "statement" {
    for_each = length(local.former_kms_key_arns) > 0 ? [local.former_kms_key_arns] : []

    content {
      sid       = "DecryptWithFormerKeys"
      actions   = ["kms:Decrypt"]
      resources = statement.value

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = [local.s3_service]
      }
      condition {
        test     = "StringLike"
        variable = "kms:EncryptionContext:aws:s3:arn"
        values   = local.secret_objects
      }
    }
  }

  # A new certificate has no ARN yet: ACM checks certificate/*.
  statement {
    sid       = "ImportNewCertificates"
    actions   = ["acm:ImportCertificate"]
    resources = [local.acm_certificates]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/certloop:installation"
      values   = [local.bucket]
    }
  }

  # ACM checks this action for the tags of an import. A certificate of another installation keeps
  # its tags.
  statement {
    sid       = "TagNewCertificates"
    actions   = ["acm:AddTagsToCertificate"]
    resources = [local.acm_certificates]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/certloop:installation"
      values   = [local.bucket]
    }
    condition {
      test     = "StringEqualsIfExists"
      variable = "aws:ResourceTag/certloop:installation"
      values   = [local.bucket]
    }
  }

  # RemoveTagsFromCertificate: a tag can leave a document. A role that may delete a certificate
  # gains nothing by it.
  statement {
    sid = "ChangeOurCertificates"
    actions = [
      "acm:DeleteCertificate", "acm:ImportCertificate", "acm:RemoveTagsFromCertificate"
    ]
    resources = [local.acm_certificates]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/certloop:installation"
      values   = [local.bucket]
    }
  }

  # Also for certificates that are not ours: renew looks at a listener's default before it replaces
  # it, and recognises a lost ARN by its tags. None of these answers holds a private key.
  statement {
    sid       = "ReadCertificates"
    actions   = ["acm:DescribeCertificate", "acm:GetCertificate", "acm:ListTagsForCertificate"]
    resources = [local.acm_certificates]
  }

  statement {
    sid       = "ListCertificates"
    actions   = ["acm:ListCertificates"]
    resources = ["*"]
  }

  statement {
    sid = "ReadLoadBalancers"
    actions = [
      "elasticloadbalancing:DescribeListenerCertificates",
      "elasticloadbalancing:DescribeListeners",
      "elasticloadbalancing:DescribeLoadBalancers",
      "elasticloadbalancing:DescribeRules",
      "elasticloadbalancing:DescribeTargetGroups",
    ]
    resources = ["*"]
  }

  # For the check of the challenge path: the request names the load balancer, and the answer is the
  # web ACL. The statement allows all load balancers: a list of ARNs would make the policy longer,
  # and would protect nothing.
  statement {
    sid     = "ReadWebAcls"
    actions = ["wafv2:GetWebACL", "wafv2:GetWebACLForResource"]
    resources = [
      "arn:${local.partition}:elasticloadbalancing:*:${local.account}:loadbalancer/app/*",
      "arn:${local.partition}:wafv2:*:${local.account}:regional/webacl/*/*",
    ]
  }

  dynamic "statement" {
    for_each = local.has_load_balancers ? [local.listener_arns] : []

    content {
      sid = "ChangeListeners"
      actions = [
        "elasticloadbalancing:AddListenerCertificates",
        "elasticloadbalancing:ModifyListener",
        "elasticloadbalancing:RemoveListenerCertificates",
      ]
      resources = statement.value

      # ModifyListener is for the default certificate, but could also turn a listener to HTTP.
      # ForAllValues, so that a request without a protocol passes, as renew's do.
      condition {
        test     = "ForAllValues:StringEquals"
        variable = "elasticloadbalancing:ListenerProtocol"
        values   = ["HTTPS"]
      }
    }
  }

  # A listener that is created with its first certificate.
  dynamic "statement" {
    for_each = local.has_load_balancers ? [local.load_balancer_arns] : []

    content {
      sid       = "CreateListeners"
      actions   = ["elasticloadbalancing:CreateListener"]
      resources = statement.value

      condition {
        test     = "StringEquals"
        variable = "aws:RequestTag/certloop:installation"
        values   = [local.bucket]
      }
      condition {
        test     = "ForAnyValue:StringEquals"
        variable = "elasticloadbalancing:ListenerProtocol"
        values   = ["HTTPS"]
      }
    }
  }

  dynamic "statement" {
    for_each = local.has_load_balancers ? [local.listener_arns] : []

    content {
      sid       = "TagNewListeners"
      actions   = ["elasticloadbalancing:AddTags"]
      resources = statement.value

      condition {
        test     = "StringEquals"
        variable = "elasticloadbalancing:CreateAction"
        values   = ["CreateListener"]
      }
      condition {
        test     = "StringEquals"
        variable = "aws:RequestTag/certloop:installation"
        values   = [local.bucket]
      }
    }
  }

  dynamic "statement" {
    for_each = length(local.secret_arns) > 0 ? [local.secret_arns] : []

    content {
      sid       = "ReadSecrets"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = statement.value
    }
  }

  dynamic "statement" {
    for_each = try(local.settings.notify.topicArn, null) == null ? [] : [local.settings.notify.topicArn]

    content {
      sid       = "PublishMessages"
      actions   = ["sns:Publish"]
      resources = [statement.value]
    }
  }

  dynamic "statement" {
    for_each = local.event_bus_arn == null ? [] : [local.event_bus_arn]

    content {
      sid       = "PutEvents"
      actions   = ["events:PutEvents"]
      resources = [statement.value]

      condition {
        test     = "StringEquals"
        variable = "events:source"
        values   = ["certloop"]
      }
    }
  }
}
