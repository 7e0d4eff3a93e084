# The five to fill in.

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

variable "load_balancer" {
  description = "The Application Load Balancer: its name or its ARN. It needs a listener on port 80."
  type        = string

  validation {
    condition = can(regex(
      "^(arn:[a-z-]+:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:loadbalancer/app/[A-Za-z0-9-]+/[0-9a-z]+|[A-Za-z0-9][A-Za-z0-9-]{0,31})$", var.load_balancer
    ))
    error_message = join(" ", [
      "load_balancer: the name of an Application Load Balancer, or its ARN",
      "(arn:aws:elasticloadbalancing:<region>:<account>:loadbalancer/app/<name>/<id>).",
    ])
  }
}

variable "domains" {
  description = "The names of the certificate. Each must lead to the load balancer, on port 80 too, before it can be issued."
  type        = list(string)

  validation {
    condition     = length(var.domains) >= 1 && length(var.domains) <= 100
    error_message = "domains: 1 to 100 names."
  }
  validation {
    condition = alltrue([
      for domain in var.domains : can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", domain)) && length(domain) <= 253
    ])
    error_message = join(" ", [
      "domains: each a full name in lower case such as shop.example.com, without scheme, port or",
      "trailing dot. Wildcards need dns-01, which is not yet supported.",
    ])
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

# The others have useful defaults.

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

variable "forward" {
  description = "Only if nothing listens on port 443 yet: name or ARN of the target group for the new HTTPS listener. Leave it set afterwards."
  type        = string
  default     = null
}

variable "priority" {
  description = "Priority of the challenge rule on port 80: a free one, lower than that of any rule that would catch the path first."
  type        = number
  default     = 1
}

variable "settings" {
  description = "Further settings, as the module accepts them."
  type        = any
  default     = {}
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
