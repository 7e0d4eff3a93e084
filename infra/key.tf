# The key of accounts/ and vault/. Settings, documents, state and limits hold no secret, and
# challenge must not need a key.

locals {
  kms_key_arn = !var.kms ? null : var.kms_key_arn != null ? var.kms_key_arn : one(aws_kms_key.this[*].arn)

  # The key for writing may always read: as a former key it would only be listed twice.
  former_kms_key_arns = [for arn in distinct(var.former_kms_key_arns) : arn if arn != var.kms_key_arn]

  # S3 passes the object's ARN as encryption context.
  secret_objects = ["${local.bucket_arn}/accounts/*", "${local.bucket_arn}/vault/*"]
  s3_service     = "s3.${local.region}.${data.aws_partition.current.dns_suffix}"
}

resource "aws_kms_key" "this" {
  count                   = var.kms && var.kms_key_arn == null ? 1 : 0
  description             = "certloop ${var.name}: account keys and private keys"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = data.aws_iam_policy_document.key[0].json
  tags                    = local.tags
}

resource "aws_kms_alias" "this" {
  count         = length(aws_kms_key.this)
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.this[0].key_id
}

data "aws_iam_policy_document" "key" {
  count = var.kms && var.kms_key_arn == null ? 1 : 0

  #checkov:skip=CKV_AWS_109:In a key's policy the resource "*" is the key itself
  #checkov:skip=CKV_AWS_111:In a key's policy the resource "*" is the key itself
  #checkov:skip=CKV_AWS_356:In a key's policy the resource "*" is the key itself

  # Managing the key, for principals that the account's IAM allows; this does not include using it.
  statement {
    sid = "Administer"
    actions = [
      "kms:CancelKeyDeletion",
      "kms:CreateAlias",
      "kms:DeleteAlias",
      "kms:DescribeKey",
      "kms:DisableKey",
      "kms:DisableKeyRotation",
      "kms:EnableKey",
      "kms:EnableKeyRotation",
      "kms:GetKeyPolicy",
      "kms:GetKeyRotationStatus",
      "kms:ListGrants",
      "kms:ListKeyPolicies",
      "kms:ListKeyRotations",
      "kms:ListResourceTags",
      "kms:PutKeyPolicy",
      "kms:RevokeGrant",
      "kms:ScheduleKeyDeletion",
      "kms:TagResource",
      "kms:UntagResource",
      "kms:UpdateAlias",
      "kms:UpdateKeyDescription",
    ]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${local.partition}:iam::${local.account}:root"]
    }
  }

  # Using it, for principals that IAM allows: only through S3 and only for the secrets of this
  # bucket, whose policy says who may.
  statement {
    sid       = "UseThroughTheBucket"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${local.partition}:iam::${local.account}:root"]
    }
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
