# One page for the person on call: how much time is left, what passes did, and whether challenges
# are answered.

locals {
  dashboard_rows = [
    {
      title   = "Least share of lifetime left (renewed at 1/3)"
      metrics = [["certloop", "LifetimeLeftShare", "Function", "${var.name}-renew", { stat = "Minimum" }]]
      bounds  = { min = 0, max = 1 }
      marks   = [{ label = "alarm", value = var.alarms.lifetime_share }]
    },
    {
      title = "Certificates"
      metrics = [
        for metric in ["CertificatesManaged", "Waiting", "Failed", "Failing", "NeedsPerson", "Unserved", "Unproved", "Strays"] :
        ["certloop", metric, "Function", "${var.name}-renew", { stat = "Maximum" }]
      ]
      bounds = { min = 0, max = null }
      marks  = []
    },
    {
      title = "What was done"
      metrics = [
        for metric in ["Issued", "Renewed", "Deployed"] :
        ["certloop", metric, "Function", "${var.name}-renew", { stat = "Sum" }]
      ]
      bounds = { min = 0, max = null }
      marks  = []
    },
    {
      title = "Passes"
      metrics = [
        ["certloop", "Passes", "Function", "${var.name}-renew", { stat = "Sum" }],
        ["certloop", "PassSeconds", "Function", "${var.name}-renew", { stat = "Maximum", yAxis = "right" }],
      ]
      bounds = { min = 0, max = null }
      marks  = []
    },
    {
      title = "Challenges"
      metrics = [
        for metric in ["ChallengeAnswered", "ChallengeMissed", "ChallengeDenied"] :
        ["certloop", metric, "Function", "${var.name}-challenge", { stat = "Sum" }]
      ]
      bounds = { min = 0, max = null }
      marks  = []
    },
    {
      title = "Quotas"
      metrics = [
        ["certloop", "ImportsThisYear", "Function", "${var.name}-renew", { stat = "Maximum" }],
        ["certloop", "ListenerCertificates", "Function", "${var.name}-renew", { stat = "Maximum", yAxis = "right" }],
      ]
      bounds = { min = 0, max = null }
      marks  = []
    },
    {
      title = "Function errors and throttles"
      metrics = [
        for pair in setproduct(["renew", "challenge"], ["Errors", "Throttles"]) :
        ["AWS/Lambda", pair[1], "FunctionName", "${var.name}-${pair[0]}", { stat = "Sum" }]
      ]
      bounds = { min = 0, max = null }
      marks  = []
    },
    {
      title   = "Channels that failed"
      metrics = [["certloop", "MessagesFailed", "Function", "${var.name}-renew", { stat = "Maximum" }]]
      bounds  = { min = 0, max = null }
      marks   = []
    },
    {
      title   = "Undelivered invocations"
      metrics = [["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", aws_sqs_queue.dead_letters.name, { stat = "Maximum" }]]
      bounds  = { min = 0, max = null }
      marks   = []
    },
  ]
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.name

  dashboard_body = jsonencode({
    widgets = [
      for i, row in local.dashboard_rows : {
        type   = "metric"
        x      = i % 2 * 12
        y      = floor(i / 2) * 6
        width  = 12
        height = 6
        properties = {
          title       = row.title
          region      = local.region
          view        = "timeSeries"
          period      = 900
          metrics     = row.metrics
          yAxis       = { left = { for bound, value in row.bounds : bound => value if value != null } }
          annotations = { horizontal = row.marks }
        }
      }
    ]
  })
}
