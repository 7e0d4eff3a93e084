# Policies to attach to people, pipelines and hosts. The module attaches them to nobody.

resource "aws_iam_policy" "operate" {
  name        = "${var.name}-operate"
  description = "certloop: invoke renew with every action"
  policy      = data.aws_iam_policy_document.operate.json
  tags        = local.tags
}

# A principal that may invoke renew with every action can write documents through it (issue with
# replace), so edit's policy adds no rights.
data "aws_iam_policy_document" "operate" {
  source_policy_documents = [data.aws_iam_policy_document.edit.json]

  statement {
    sid       = "Operate"
    actions   = ["lambda:InvokeFunction"]
    resources = [local.function_arns.renew, "${local.function_arns.renew}:view"]
  }
}

resource "aws_iam_policy" "edit" {
  name        = "${var.name}-edit"
  description = "certloop: read and write documents"
  policy      = data.aws_iam_policy_document.edit.json
  tags        = local.tags
}

data "aws_iam_policy_document" "edit" {
  statement {
    sid       = "ReadDocuments"
    actions   = ["s3:GetObject"]
    resources = ["${local.bucket_arn}/settings.json", "${local.bucket_arn}/certificates/*"]
  }

  statement {
    sid       = "WriteDocuments"
    actions   = ["s3:PutObject"]
    resources = ["${local.bucket_arn}/certificates/*"]
  }

  # With this S3 answers 404 for a missing document, as with renew's ListObjects.
  statement {
    sid       = "ListDocuments"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn]

    condition {
      test     = "StringLikeIfExists"
      variable = "s3:prefix"
      values   = ["settings.json", "certificates/*"]
    }
  }
}

resource "aws_iam_policy" "view" {
  name        = "${var.name}-view"
  description = "certloop: ask renew for status, plan and check"
  policy      = data.aws_iam_policy_document.view.json
  tags        = local.tags
}

data "aws_iam_policy_document" "view" {
  statement {
    sid       = "View"
    actions   = ["lambda:InvokeFunction"]
    resources = ["${local.function_arns.renew}:view"]
  }
}

# The calls of certloop doctor; none of them changes anything. It reports "could not tell" for a
# call that it may not make.
resource "aws_iam_policy" "doctor" {
  name        = "${var.name}-doctor"
  description = "certloop: read how the installation is configured"
  policy      = data.aws_iam_policy_document.doctor.json
  tags        = local.tags
}

data "aws_iam_policy_document" "doctor" {
  #checkov:skip=CKV_AWS_356:Describe calls of ELB and statistics of CloudWatch accept only "*"
  source_policy_documents = [data.aws_iam_policy_document.view.json]

  statement {
    sid = "ReadBucketConfiguration"
    actions = [
      "s3:GetBucketNotification",
      "s3:GetBucketOwnershipControls",
      "s3:GetBucketPolicy",
      "s3:GetBucketPublicAccessBlock",
      "s3:GetBucketVersioning",
      "s3:GetEncryptionConfiguration",
      "s3:GetLifecycleConfiguration",
    ]
    resources = [local.bucket_arn]
  }

  statement {
    sid       = "ReadSettings"
    actions   = ["s3:GetObject"]
    resources = ["${local.bucket_arn}/settings.json"]
  }

  statement {
    sid = "ReadFunctions"
    actions = [
      "lambda:GetAlias",
      "lambda:GetFunctionConcurrency",
      "lambda:GetFunctionConfiguration",
      "lambda:GetFunctionEventInvokeConfig",
      "lambda:GetPolicy",
    ]
    resources = flatten([for arn in values(local.function_arns) : [arn, "${arn}:*"]])
  }

  statement {
    sid       = "ReadSchedule"
    actions   = ["scheduler:GetSchedule"]
    resources = ["arn:${local.partition}:scheduler:${local.region}:${local.account}:schedule/${var.name}/${var.name}-reconcile"]
  }

  statement {
    sid       = "ReadMetrics"
    actions   = ["cloudwatch:GetMetricStatistics"]
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
}

# The bucket's policy allows the same principals: without an entry in var.pull this policy allows
# nothing.
resource "aws_iam_policy" "pull" {
  for_each    = var.pull
  name        = "${var.name}-pull-${each.key}"
  description = "certloop: read the certificate ${each.key} with its private key"
  policy      = data.aws_iam_policy_document.pull[each.key].json
  tags        = local.tags
}

data "aws_iam_policy_document" "pull" {
  for_each = var.pull

  statement {
    sid       = "ReadVault"
    actions   = ["s3:GetObject"]
    resources = ["${local.bucket_arn}/vault/${each.key}/*"]
  }

  # Which entry of the vault must be served: after a rollback it is not the newest one.
  statement {
    sid       = "ReadState"
    actions   = ["s3:GetObject"]
    resources = ["${local.bucket_arn}/state/${each.key}.json"]
  }

  # For the state, so that S3 answers 404 where there is none yet.
  statement {
    sid       = "ListVault"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["state/${each.key}.json", "vault/${each.key}/*"]
    }
  }

  dynamic "statement" {
    for_each = var.kms ? [local.kms_key_arn] : []

    content {
      sid       = "DecryptVault"
      actions   = ["kms:Decrypt"]
      resources = [statement.value]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = [local.s3_service]
      }
      condition {
        test     = "StringLike"
        variable = "kms:EncryptionContext:aws:s3:arn"
        values   = ["${local.bucket_arn}/vault/${each.key}/*"]
      }
    }
  }

  dynamic "statement" {
    for_each = length(local.former_kms_key_arns) > 0 ? [local.former_kms_key_arns] : []

    content {
      sid       = "DecryptFormerVault"
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
        values   = ["${local.bucket_arn}/vault/${each.key}/*"]
      }
    }
  }
}
