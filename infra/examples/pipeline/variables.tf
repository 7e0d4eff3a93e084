variable "environment" {
  description = "Name of the environment. Everything is called certloop-<environment>, so several can exist side by side in one account."
  type        = string

  validation {
    condition = can(regex("^[a-z]([a-z0-9-]{0,20}[a-z0-9])?$", var.environment))
    error_message = join(" ", [
      "environment: at most 22 lower-case letters, digits and hyphens, beginning with a letter and",
      "not ending in a hyphen.",
    ])
  }
}

variable "load_balancers" {
  description = "Names of the Application Load Balancers whose listeners hold the certificates."
  type        = list(string)

  validation {
    condition = alltrue([
      for name in var.load_balancers : can(regex("^[A-Za-z0-9][A-Za-z0-9-]{0,31}$", name))
    ])
    error_message = "load_balancers: names, not ARNs or DNS names."
  }
}

variable "email" {
  description = "Contact of the account at Let's Encrypt. Alarms go there too, after you confirm the subscription that AWS sends."
  type        = string

  validation {
    condition     = can(regex("^[^@\\s:]+@[^@\\s]+\\.[^@\\s.]+$", var.email))
    error_message = "email: an address such as ops@example.com, without mailto:."
  }
}

variable "production" {
  description = "false: Let's Encrypt's staging authority, which browsers do not trust and whose rate limits are wide; true: the production authority. After a change certloop orders again."
  type        = bool
}

variable "account" {
  description = "Number of the AWS account of this environment; null: the account of the credentials."
  type        = string
  default     = null

  validation {
    condition     = var.account == null || can(regex("^[0-9]{12}$", var.account))
    error_message = "account: the twelve digits of an AWS account, in quotes."
  }
  validation {
    condition = (
      var.account == null ||
      var.account == data.aws_caller_identity.current.account_id
    )
    error_message = join(" ", [
      "account: these credentials belong to another account,",
      "${data.aws_caller_identity.current.account_id}.",
    ])
  }
}

variable "permissions_boundary" {
  description = "ARN of a permissions boundary for the roles made here: it can keep the deploying role from making stronger ones."
  type        = string
  default     = null
}

variable "packages" {
  description = "Folder with renew-<architecture>.zip and challenge-<architecture>.zip; null: target/package of this repository."
  type        = string
  default     = null
}

variable "architecture" {
  description = "Architecture of the functions: arm64 or x86_64."
  type        = string
  default     = "arm64"
}

variable "force_destroy" {
  description = "Whether destroy may empty the bucket: ACME account key, certificates' private keys, state. `make destroy` sets it after asking."
  type        = bool
  default     = false
}
