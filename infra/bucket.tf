# One bucket holds everything: wanted certificates, state, accounts, private keys and the tokens of
# open challenges.

locals {
  # Account and region make the name unique, so that environments and regions can exist side by
  # side.
  bucket     = "${var.name}-${local.account}-${local.region}"
  bucket_arn = "arn:${local.partition}:s3:::${local.bucket}"

  bucket_policy_size = length(jsonencode(jsondecode(data.aws_iam_policy_document.bucket.json)))
}

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_18:CloudTrail's data events show who reads secrets; the account decides
  #checkov:skip=CKV_AWS_21:Versioning is a variable: older versions are older private keys
  #checkov:skip=CKV_AWS_144:A copy would be a second place with private keys; all can be reissued
  #checkov:skip=CKV_AWS_145:KMS is set per object; challenges/ must be readable without a key
  bucket        = local.bucket
  force_destroy = var.force_destroy
  tags          = local.tags
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

# If this resource is removed, versioning is suspended: S3 cannot switch it off.
resource "aws_s3_bucket_versioning" "this" {
  count  = var.versioning ? 1 : 0
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

# A safety net below renew's own cleanup. S3 looks once a day, and where rules overlap the shorter
# time counts. The rules for older versions exist without versioning too: a bucket that was
# versioned once still has older versions.
resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    id     = "leftover-tokens"
    status = "Enabled"
    filter {
      prefix = "challenges/"
    }
    expiration {
      days = 1
    }
    noncurrent_version_expiration {
      noncurrent_days = 1
    }
  }

  # renew removes what it replaces; this rule is for what was never replaced.
  rule {
    id     = "forgotten-keys"
    status = "Enabled"
    filter {
      prefix = "vault/"
    }
    expiration {
      days = var.vault_days
    }
    noncurrent_version_expiration {
      noncurrent_days = 1
    }
  }

  rule {
    id     = "older-account-keys"
    status = "Enabled"
    filter {
      prefix = "accounts/"
    }
    noncurrent_version_expiration {
      noncurrent_days = 1
    }
  }

  rule {
    id     = "older-versions"
    status = "Enabled"
    filter {
      prefix = ""
    }
    noncurrent_version_expiration {
      noncurrent_days = 90
    }
    expiration {
      expired_object_delete_marker = true
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_notification" "this" {
  bucket      = aws_s3_bucket.this.id
  eventbridge = true
}

# With IAM alone, an administrator could read a private key or plant a token by mistake, so the
# bucket's own policy denies it. The policy grants nothing: IAM still decides on what it does not
# deny. It denies only object actions outside settings.json and certificates/, never actions on the
# bucket: the person who runs Terraform can always change or remove this policy.
data "aws_iam_policy_document" "bucket" {
  #checkov:skip=CKV_AWS_49:The wildcard is in a statement that denies
  #checkov:skip=CKV_AWS_283:The wildcard principal is in statements that deny
  #checkov:skip=CKV_AWS_356:Nothing is allowed here
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [local.bucket_arn, "${local.bucket_arn}/*"]

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

  # Everything except a plain read: writing, deleting, versions, tags, access control lists, and
  # future actions of S3.
  statement {
    sid         = "OnlyRenewWrites"
    effect      = "Deny"
    not_actions = ["s3:GetObject"]
    not_resources = [
      local.bucket_arn,
      "${local.bucket_arn}/settings.json",
      "${local.bucket_arn}/certificates/*",
    ]

    principals {
      type        = "*"
      identifiers = ["*"]
    }
    # For an assumed role this is the role's ARN, not the session's.
    condition {
      test     = "StringNotEquals"
      variable = "aws:PrincipalArn"
      values   = [local.role_arns.renew]
    }
  }

  statement {
    sid     = "OnlyRenewReads"
    effect  = "Deny"
    actions = ["s3:GetObject"]
    not_resources = concat(
      [
        "${local.bucket_arn}/settings.json",
        "${local.bucket_arn}/certificates/*",
        "${local.bucket_arn}/challenges/*",
      ],
      length(var.pull) > 0 ? ["${local.bucket_arn}/state/*"] : [],
      [for name in keys(var.pull) : "${local.bucket_arn}/vault/${name}/*"],
    )

    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "StringNotEquals"
      variable = "aws:PrincipalArn"
      values   = [local.role_arns.renew]
    }
  }

  statement {
    sid       = "ChallengeReadsTokens"
    effect    = "Deny"
    actions   = ["s3:GetObject"]
    resources = ["${local.bucket_arn}/challenges/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "StringNotEquals"
      variable = "aws:PrincipalArn"
      values   = [local.role_arns.renew, local.role_arns.challenge]
    }
  }

  # Each principal of var.pull may read every record here: a record holds no secret, and the policy
  # of pull allows only one. Statements for each name would halve the number of names that fit.
  dynamic "statement" {
    for_each = length(var.pull) > 0 ? [distinct(flatten(values(var.pull)))] : []

    content {
      sid       = "PullersReadState"
      effect    = "Deny"
      actions   = ["s3:GetObject"]
      resources = ["${local.bucket_arn}/state/*"]

      principals {
        type        = "*"
        identifiers = ["*"]
      }
      condition {
        test     = "StringNotEquals"
        variable = "aws:PrincipalArn"
        values   = concat([local.role_arns.renew], statement.value)
      }
    }
  }

  dynamic "statement" {
    for_each = var.pull

    content {
      sid       = "Pull${replace(title(replace(statement.key, "-", " ")), " ", "")}${substr(md5(statement.key), 0, 4)}"
      effect    = "Deny"
      actions   = ["s3:GetObject"]
      resources = ["${local.bucket_arn}/vault/${statement.key}/*"]

      principals {
        type        = "*"
        identifiers = ["*"]
      }
      condition {
        test     = "StringNotEquals"
        variable = "aws:PrincipalArn"
        values   = concat([local.role_arns.renew], statement.value)
      }
    }
  }
}

# On destroy this is removed before the bucket, so that Terraform may empty it (force_destroy).
resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id
  policy = data.aws_iam_policy_document.bucket.json

  lifecycle {
    precondition {
      condition = local.bucket_policy_size <= 20480
      error_message = join(" ", [
        "pull: with ${length(var.pull)} names the bucket's policy has ${local.bucket_policy_size}",
        "characters, and S3 accepts 20480: use fewer names or fewer principals, or a second",
        "installation with another name. About 40 names with one principal each fit.",
      ])
    }
  }

  depends_on = [aws_s3_bucket_public_access_block.this]
}
