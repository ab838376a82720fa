# Files of the web page. Their names carry a hash of the content, so they are cached for ever and
# never invalidated. No punch passes here.

resource "aws_acm_certificate" "static" {
  region      = local.us_east_1
  domain_name = "static.${var.domain}"
  # Not for the CDN: the proof for this name is the same record for every certificate of the
  # account, and the regions' certificates renew by it.
  subject_alternative_names = [var.domain]
  validation_method         = "DNS"
  lifecycle {
    create_before_destroy = true
  }
}

locals {
  proofs = { for name in ["static.${var.domain}", var.domain] : name => one([for o in aws_acm_certificate.static.domain_validation_options : o if o.domain_name == name]) }
}

resource "aws_route53_record" "static_validation" {
  for_each = local.proofs
  zone_id  = aws_route53_zone.public.zone_id
  name     = each.value.resource_record_name
  type     = each.value.resource_record_type
  records  = [each.value.resource_record_value]
  ttl      = 300
}

# It waits until the parent zone delegates to this zone: delegate first.
resource "aws_acm_certificate_validation" "static" {
  region                  = local.us_east_1
  certificate_arn         = aws_acm_certificate.static.arn
  validation_record_fqdns = [for r in aws_route53_record.static_validation : r.fqdn]
}

resource "aws_cloudfront_origin_access_control" "static" {
  name                              = "${var.deployment}-static"
  origin_access_control_origin_type = "s3"
  signing_behavior                  = "always"
  signing_protocol                  = "sigv4"
}

resource "aws_cloudfront_response_headers_policy" "static" {
  name = "${var.deployment}-static"
  custom_headers_config {
    items {
      header   = "Cache-Control"
      value    = "public, max-age=31536000, immutable"
      override = true
    }
  }
  security_headers_config {
    content_type_options {
      override = true
    }
    strict_transport_security {
      access_control_max_age_sec = 31536000
      include_subdomains         = false
      override                   = true
    }
  }
  cors_config { # the page itself comes from the nodes
    access_control_allow_credentials = false
    origin_override                  = true
    access_control_allow_headers {
      items = ["*"]
    }
    access_control_allow_methods {
      items = ["GET", "HEAD"]
    }
    access_control_allow_origins {
      items = ["https://${var.domain}", "https://*.${var.domain}"]
    }
  }
}

resource "aws_cloudfront_distribution" "static" {
  enabled         = true
  comment         = "${var.deployment}: static files"
  aliases         = ["static.${var.domain}"]
  is_ipv6_enabled = true
  http_version    = "http2and3"

  origin {
    origin_id                = "static"
    domain_name              = aws_s3_bucket.main["static"].bucket_regional_domain_name
    origin_access_control_id = aws_cloudfront_origin_access_control.static.id
  }

  default_cache_behavior {
    target_origin_id           = "static"
    viewer_protocol_policy     = "redirect-to-https"
    allowed_methods            = ["GET", "HEAD"]
    cached_methods             = ["GET", "HEAD"]
    compress                   = true
    cache_policy_id            = "658327ea-f89d-4fab-a63d-7e88639e58f6" # AWS's CachingOptimized
    response_headers_policy_id = aws_cloudfront_response_headers_policy.static.id
  }

  restrictions {
    geo_restriction {
      restriction_type = "none"
    }
  }

  viewer_certificate {
    acm_certificate_arn      = aws_acm_certificate_validation.static.certificate_arn
    ssl_support_method       = "sni-only"
    minimum_protocol_version = "TLSv1.2_2021"
  }
}

resource "aws_s3_bucket_policy" "static" {
  region = local.primary
  bucket = aws_s3_bucket.main["static"].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "cloudfront.amazonaws.com" }
      Action    = "s3:GetObject"
      Resource  = "${aws_s3_bucket.main["static"].arn}/*"
      Condition = { StringEquals = { "AWS:SourceArn" = aws_cloudfront_distribution.static.arn } }
    }]
  })
  depends_on = [aws_s3_bucket_public_access_block.main]
}

resource "aws_route53_record" "static" {
  for_each = toset(["A", "AAAA"])
  zone_id  = aws_route53_zone.public.zone_id
  name     = "static.${var.domain}"
  type     = each.key
  alias {
    name                   = aws_cloudfront_distribution.static.domain_name
    zone_id                = aws_cloudfront_distribution.static.hosted_zone_id
    evaluate_target_health = false # CloudFront answers for its own health
  }
}
