# Policies to attach to people, pipelines and hosts. The module attaches them to nobody.

resource "aws_iam_policy" "operate" {
  name        = "${var.name}-operate"
  description = "certloop: invoke renew with every action"
  policy      = data.aws_iam_policy_document.operate.json
  tags        = local.tags
}

data "aws_iam_policy_document" "operate" {
  statement {
    sid       = "Operate"
    actions   = ["lambda:InvokeFunction"]
    resources = [local.function_arns.renew, "${local.function_arns.renew}:view"]
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

# The bucket's policy lets the same principals through: this policy without an entry in var.pull opens nothing.
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

  statement {
    sid       = "ListVault"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["vault/${each.key}/*"]
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
