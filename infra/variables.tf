# This file checks only the form. The templates in refusals/ check the content of documents. Each
# template renders one line for each mistake, in the words of the function itself, and nothing if
# there is no mistake.

variable "name" {
  description = "Prefix of all names; one per environment (certloop-dev, certloop-prod)."
  type        = string
  default     = "certloop"
  nullable    = false

  validation {
    condition = can(regex("^[a-z][a-z0-9-]{1,30}[a-z0-9]$", var.name))
    error_message = join(" ", [
      "name: ${jsonencode(var.name)} is not a prefix: use 3 to 32 of a-z, 0-9 and -, beginning",
      "with a letter and not ending with a -.",
    ])
  }
}

variable "tags" {
  description = "Tags on everything."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition = alltrue([
      for key in keys(var.tags) : !can(regex("(?i)^(aws|certloop)(:|$)", key))
    ])
    error_message = "tags: keys that are or begin with certloop or aws: are reserved: use others."
  }
}

variable "packages" {
  description = "Folder with renew-<architecture>.zip and challenge-<architecture>.zip; null: target/package of the repository, where make package puts them."
  type        = string
  default     = null

  validation {
    condition = alltrue([
      for function in ["renew", "challenge"] :
      fileexists("${coalesce(var.packages, "${path.module}/../target/package")}/${function}-${var.architecture}.zip")
    ])
    error_message = join(" ", [
      "packages: ${coalesce(var.packages, "target/package")} lacks renew-${var.architecture}.zip",
      "or challenge-${var.architecture}.zip: run make package, or unpack a release there.",
    ])
  }
}

variable "architecture" {
  description = "Architecture of the functions: arm64 or x86_64."
  type        = string
  default     = "arm64"
  nullable    = false

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture: ${jsonencode(var.architecture)} is neither \"arm64\" nor \"x86_64\"."
  }
}

variable "contact" {
  description = "E-mail addresses of the ACME account, without mailto:."
  type        = list(string)
  nullable    = false

  validation {
    condition = alltrue([for address in var.contact : can(regex(local.mail_address, address))])
    error_message = join("\n", [
      for i, address in var.contact : "contact[${i}]: ${jsonencode(address)} is not one plain mail address: write ops@example.com."
      if !can(regex(local.mail_address, address))
    ])
  }
}

variable "terms_of_service_agreed" {
  description = "Whether you have read the authority's terms of service and agree to them."
  type        = bool
  nullable    = false

  validation {
    condition = var.terms_of_service_agreed
    error_message = join(" ", [
      "terms_of_service_agreed: is false, and no authority makes an account without agreement:",
      "read the terms that its directory names, then set it to true.",
    ])
  }
}

variable "directory" {
  description = "URL of the authority's ACME directory; the default is Let's Encrypt."
  type        = string
  default     = "https://acme-v02.api.letsencrypt.org/directory"
  nullable    = false

  validation {
    condition = can(regex("^https://([^\\s#@/?:]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?([/?][^\\s#]*)?$", var.directory))
    error_message = join(" ", [
      "directory: ${jsonencode(var.directory)} is not the https URL of an ACME directory, such as",
      "https://acme-staging-v02.api.letsencrypt.org/directory.",
    ])
  }
}

variable "settings" {
  description = "Further fields of settings.json, merged over those from contact, directory and terms_of_service_agreed."
  type        = any
  default     = {}
  nullable    = false

  validation {
    condition     = can(keys(var.settings))
    error_message = "settings: has the wrong type: give an object."
  }

  validation {
    condition = (
      trimspace(templatefile("${path.module}/refusals/settings.tftpl", { settings = var.settings }))
      == ""
    )
    error_message = trimspace(templatefile("${path.module}/refusals/settings.tftpl", { settings = var.settings }))
  }
}

variable "certificates" {
  description = "The wanted certificates: name => document, as in certificates/<name>.json."
  type        = any
  default     = {}
  nullable    = false

  validation {
    condition     = can(keys(var.certificates))
    error_message = "certificates: has the wrong type: give an object of documents by name."
  }

  validation {
    condition = (
      trimspace(templatefile("${path.module}/refusals/certificates.tftpl", { certificates = var.certificates, settings = var.settings }))
      == ""
    )
    error_message = trimspace(templatefile("${path.module}/refusals/certificates.tftpl", { certificates = var.certificates, settings = var.settings }))
  }

  # Separate from the rest: when the same apply creates a load balancer, its ARN is not known at
  # plan and can only be checked later.
  validation {
    condition = (
      trimspace(templatefile("${path.module}/refusals/targets.tftpl", { certificates = var.certificates, settings = var.settings, account = local.account }))
      == ""
    )
    error_message = trimspace(templatefile("${path.module}/refusals/targets.tftpl", { certificates = var.certificates, settings = var.settings, account = local.account }))
  }
}

variable "look_up_listeners" {
  description = "Whether the plan looks up the listeners named in certificates; false if one is in another region than the provider's."
  type        = bool
  default     = true
  nullable    = false
}

variable "load_balancers" {
  description = "Application Load Balancers by a label of your choice: renew may change the certificates of their listeners, and the challenge rule is added to them."
  type = map(object({
    arn            = optional(string)
    name           = optional(string)
    http_port      = optional(number, 80)
    priority       = optional(number, 1)
    https          = optional(bool, false)
    https_port     = optional(number, 443)
    https_priority = optional(number, 1)
    challenge      = optional(bool, true)
  }))
  default  = {}
  nullable = false

  validation {
    condition = alltrue([
      for label in keys(var.load_balancers) : can(regex("^[a-z0-9][a-z0-9-]{0,31}$", label))
    ])
    error_message = "load_balancers: labels are 1 to 32 of a-z, 0-9 and -, the first not a -."
  }

  validation {
    condition = alltrue([
      for it in values(var.load_balancers) : (it.arn == null) != (it.name == null)
    ])
    error_message = join("\n", [
      for label, it in var.load_balancers : "load_balancers.${label}: give either arn or name."
      if(it.arn == null) == (it.name == null)
    ])
  }

  validation {
    condition = alltrue([
      for it in values(var.load_balancers) :
      can(regex(local.load_balancer_arn, it.arn)) || it.arn == null
    ])
    error_message = join("\n", [
      for label, it in var.load_balancers :
      "load_balancers.${label}.arn: ${jsonencode(it.arn)} is not the ARN of an Application Load Balancer: give arn:aws:elasticloadbalancing:<region>:<account>:loadbalancer/app/..."
      if !(can(regex(local.load_balancer_arn, it.arn)) || it.arn == null)
    ])
  }

  validation {
    condition = alltrue(flatten([
      for it in values(var.load_balancers) : [
        for priority in [it.priority, it.https_priority] : priority >= 1 && priority <= 50000 && floor(priority) == priority
      ]
    ]))
    error_message = "load_balancers: priority and https_priority are whole numbers from 1 to 50000."
  }

  validation {
    condition = alltrue(flatten([
      for it in values(var.load_balancers) : [
        for port in [it.http_port, it.https_port] : port >= 1 && port <= 65535 && floor(port) == port
      ]
    ]))
    error_message = "load_balancers: http_port and https_port are whole numbers from 1 to 65535."
  }

  # A rule's priority is unique on its listener, so one load balancer under two labels would fail
  # half-way through the apply.
  validation {
    condition = alltrue([
      for label, it in var.load_balancers : alltrue([
        for other, that in var.load_balancers :
        other == label || !it.challenge || !that.challenge || jsonencode([it.arn, it.name]) != jsonencode([that.arn, that.name]) ||
        !(it.http_port == that.http_port && it.priority == that.priority || it.https && that.https && it.https_port == that.https_port && it.https_priority == that.https_priority)
      ])
    ])
    error_message = join(" ", [
      "load_balancers: two labels name the same load balancer, port and priority, and a listener",
      "has each priority only once: give one of them another priority, or remove it.",
    ])
  }
}

variable "function_url" {
  description = "Whether challenge gets a public function URL, for reverse proxies and load balancers that cannot reach Lambda."
  type        = bool
  default     = false
  nullable    = false
}

variable "schedule" {
  description = "How often a pass runs, as an EventBridge Scheduler expression. The alarm on missing passes expects two an hour."
  type        = string
  default     = "rate(10 minutes)"
  nullable    = false

  validation {
    condition = can(regex("^(rate\\(([1-9][0-9]*) (minutes?|hours?|days?)\\)|cron\\([^()]+\\))$", var.schedule))
    error_message = join(" ", [
      "schedule: ${jsonencode(var.schedule)} is not an expression: write rate(10 minutes) or",
      "cron(0/10 * * * ? *).",
    ])
  }

  # This cannot be checked for a cron().
  validation {
    condition = (
      !var.alarms.enabled ||
      !can(regex("^rate\\((3[1-9]|[4-9][0-9]|[1-9][0-9]{2,}) minutes?\\)$|^rate\\([0-9]+ (hours?|days?)\\)$", var.schedule))
    )
    error_message = join(" ", [
      "schedule: ${var.schedule} is slower than every 30 minutes, and the alarm on missing passes",
      "looks at an hour: make it faster, or do without alarms (alarms.enabled).",
    ])
  }
}

variable "flexible_window_minutes" {
  description = "How many minutes after its time a pass may start at the latest; 0: at its time."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition = (
      var.flexible_window_minutes >= 0 &&
      var.flexible_window_minutes <= 1440 &&
      floor(var.flexible_window_minutes) == var.flexible_window_minutes
    )
    error_message = join(" ", [
      "flexible_window_minutes: is ${var.flexible_window_minutes}: give a whole number from 0 to",
      "1440.",
    ])
  }
}

variable "kms" {
  description = "Whether account keys and private keys are encrypted with a KMS key; false: with S3's own key, like the rest. Before you change it: README, Changing the key."
  type        = bool
  default     = true
  nullable    = false
}

variable "kms_key_arn" {
  description = "ARN of an existing KMS key to use in place of the module's own. Its policy must leave the decision to IAM. Before you change it: README, Changing the key."
  type        = string
  default     = null

  validation {
    condition = (
      var.kms_key_arn == null ||
      can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.kms_key_arn))
    )
    error_message = join(" ", [
      "kms_key_arn: is not the ARN of a KMS key: give arn:aws:kms:<region>:<account>:key/... (not",
      "an alias).",
    ])
  }

  validation {
    condition     = var.kms_key_arn == null || var.kms
    error_message = "kms_key_arn: is set and kms is false: remove one of the two."
  }
}

# An object can be read only with the key that it was written with, even if another key is in use
# today.
variable "former_kms_key_arns" {
  description = "ARNs of KMS keys that encrypted accounts/ and vault/ before: renew and pull may still decrypt with them."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([
      for arn in var.former_kms_key_arns :
      can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", arn))
    ])
    error_message = join(" ", [
      "former_kms_key_arns: one is not the ARN of a KMS key: give",
      "arn:aws:kms:<region>:<account>:key/... (not an alias).",
    ])
  }
}

variable "versioning" {
  description = "Whether the bucket keeps older versions (of secrets for a day, of the rest for 90)."
  type        = bool
  default     = false
  nullable    = false
}

# Older objects are of no use: a public authority signs for at most 200 days (398 days before March
# 2026). A private one may sign for longer, and an object's age is the time since its last renewal.
variable "vault_days" {
  description = "Days after which a private key that was never renewed is removed from the vault; more than the longest lifetime that your authorities sign."
  type        = number
  default     = 400
  nullable    = false

  validation {
    condition = var.vault_days >= 100 && floor(var.vault_days) == var.vault_days
    error_message = join(" ", [
      "vault_days: is ${var.vault_days}: give a whole number of at least 100, more than the",
      "longest lifetime that your authorities sign.",
    ])
  }
}

variable "force_destroy" {
  description = "Whether destroy empties the bucket. Otherwise a bucket that holds account keys and private keys stays."
  type        = bool
  default     = false
  nullable    = false
}

variable "pull" {
  description = "Who else may read a certificate and its private key: certificate's name => ARNs of roles and users of this account."
  type        = map(list(string))
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.pull) : can(regex(local.short_name, name))])
    error_message = "pull: a key is not a certificate's name: use 1 to 63 of a-z, 0-9 and -, the first not a -."
  }

  validation {
    condition = alltrue(flatten([
      for name, arns in var.pull : [for arn in arns : can(regex("^arn:aws[a-z-]*:iam::${local.account}:(role|user)/[A-Za-z0-9+=,.@_/-]+$", arn))]
    ]))
    error_message = join("\n", flatten([
      for name, arns in var.pull : [
        for i, arn in arns : "pull.${name}[${i}]: ${jsonencode(arn)} is not the ARN of a role or user of this account: give arn:aws:iam::${local.account}:role/..."
        if !can(regex("^arn:aws[a-z-]*:iam::${local.account}:(role|user)/[A-Za-z0-9+=,.@_/-]+$", arn))
      ]
    ]))
  }
}

variable "local_operators" {
  description = "ARNs of roles and users of this account that may take renew's role, for certloop --local: a pass without the function."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([
      for arn in var.local_operators :
      can(regex("^arn:aws[a-z-]*:iam::${local.account}:(role|user)/[A-Za-z0-9+=,.@_/-]+$", arn))
    ])
    error_message = join("\n", [
      for i, arn in var.local_operators : "local_operators[${i}]: ${jsonencode(arn)} is not the ARN of a role or user of this account: give arn:aws:iam::${local.account}:role/..."
      if !can(regex("^arn:aws[a-z-]*:iam::${local.account}:(role|user)/[A-Za-z0-9+=,.@_/-]+$", arn))
    ])
  }
}

variable "renew_memory" {
  description = "Memory of renew, in MB."
  type        = number
  default     = 256
  nullable    = false
}

variable "renew_timeout" {
  description = "Longest time a pass may take, in seconds."
  type        = number
  default     = 900
  nullable    = false

  validation {
    condition     = var.renew_timeout >= 60 && var.renew_timeout <= 900
    error_message = "renew_timeout: is ${var.renew_timeout}: give 60 to 900 seconds."
  }
}

variable "challenge_memory" {
  description = "Memory of challenge, in MB."
  type        = number
  default     = 128
  nullable    = false
}

variable "challenge_timeout" {
  description = "Longest time an answer may take, in seconds."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = var.challenge_timeout >= 3 && var.challenge_timeout <= 29
    error_message = "challenge_timeout: is ${var.challenge_timeout}: give 3 to 29 seconds."
  }
}

variable "log_retention_days" {
  description = "Days to keep logs."
  type        = number
  default     = 30
  nullable    = false
}

variable "permissions_boundary" {
  description = "ARN of a permissions boundary for the module's roles."
  type        = string
  default     = null
}

variable "topic_arn" {
  description = "ARN of an existing SNS topic for alarms, in place of the module's own. Its policy must let CloudWatch publish."
  type        = string
  default     = null

  validation {
    condition = (
      var.topic_arn == null ||
      can(regex("^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+$", var.topic_arn))
    )
    error_message = "topic_arn: is not the ARN of an SNS topic: give arn:aws:sns:<region>:<account>:<name>."
  }
}

variable "message_topic" {
  description = "Whether messages about certificates go to the topic of the alarms too: settings.notify.topicArn is then that topic's ARN."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.message_topic || try(var.settings.notify.topicArn, null) == null
    error_message = "message_topic: sets settings.notify.topicArn, which is given: remove one of the two."
  }
}

variable "alarm_emails" {
  description = "E-mail addresses subscribed to the module's topic. Each gets a message to confirm."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([for address in var.alarm_emails : can(regex(local.mail_address, address))])
    error_message = join("\n", [
      for i, address in var.alarm_emails : "alarm_emails[${i}]: ${jsonencode(address)} is not one plain mail address: write ops@example.com."
      if !can(regex(local.mail_address, address))
    ])
  }

  validation {
    condition = var.topic_arn == null || length(var.alarm_emails) == 0
    error_message = join(" ", [
      "alarm_emails: are for the module's own topic, and topic_arn names another: subscribe them",
      "there.",
    ])
  }
}

variable "alarms" {
  description = "Thresholds of the alarms; enabled = false makes none."
  type = object({
    lifetime_share              = optional(number, 0.25)
    imports_per_year            = optional(number, 5000)
    certificates_per_listener   = optional(number, 25)
    approaching_expiration_days = optional(number, 1)
    managed_fall                = optional(number, 1)
    enabled                     = optional(bool, true)
  })
  default  = {}
  nullable = false

  validation {
    condition = var.alarms.lifetime_share > 0 && var.alarms.lifetime_share < 1
    error_message = join(" ", [
      "alarms.lifetime_share: is ${var.alarms.lifetime_share}: give a share of the lifetime",
      "between 0 and 1, below the 1/3 at which certificates are renewed.",
    ])
  }

  validation {
    condition = var.alarms.imports_per_year >= 1 && var.alarms.certificates_per_listener >= 1
    error_message = join(" ", [
      "alarms.imports_per_year and alarms.certificates_per_listener: give your account's quotas,",
      "at least 1.",
    ])
  }

  validation {
    condition = (
      var.alarms.managed_fall >= 0 &&
      floor(var.alarms.managed_fall) == var.alarms.managed_fall
    )
    error_message = join(" ", [
      "alarms.managed_fall: is ${var.alarms.managed_fall}: give by how many certificates the",
      "number must fall in an hour to ring, a whole number, or 0 for no such alarm.",
    ])
  }

  validation {
    condition = (
      var.alarms.approaching_expiration_days >= 0 &&
      var.alarms.approaching_expiration_days <= 45
    )
    error_message = join(" ", [
      "alarms.approaching_expiration_days: is ${var.alarms.approaching_expiration_days}: ACM",
      "reports from 45 days before; give 1 to 45, or 0 for no such messages.",
    ])
  }
}

variable "environment" {
  description = "Further environment variables of both functions. No secrets: the Terraform state holds them."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = !anytrue([for key in keys(var.environment) : startswith(key, "CERTLOOP_")])
    error_message = "environment: variables that begin with CERTLOOP_ are reserved for the module."
  }
}

locals {
  mail_address      = "^[A-Za-z0-9.!#$%&'*+/=^_{|}~-]+@[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)+$"
  short_name        = "^[a-z0-9][a-z0-9-]{0,62}$"
  load_balancer_arn = "^arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:loadbalancer/app/[A-Za-z0-9-]+/[A-Za-z0-9]+$"
}
