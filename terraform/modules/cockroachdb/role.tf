resource "aws_iam_role" "server" {
  name = "${local.prefix}-database"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }]
  })
}

resource "aws_iam_instance_profile" "server" {
  name = "${local.prefix}-database"
  role = aws_iam_role.server.name
}

# Session Manager, for the operator's shell, and the setup.
resource "aws_iam_role_policy_attachment" "ssm" {
  role       = aws_iam_role.server.name
  policy_arn = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_role_policy" "server" {
  name = "database"
  role = aws_iam_role.server.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat([
      { Sid = "Artifacts", Effect = "Allow", Action = ["s3:GetObject"], Resource = ["arn:aws:s3:::${var.artifacts}/cockroach/*", "arn:aws:s3:::${var.artifacts}/punchclock/*"] },
      # Secrets Manager ends each name with six characters of its own.
      { Sid = "Secrets", Effect = "Allow", Action = ["secretsmanager:GetSecretValue"], Resource = [for s in ["${var.name}/database", "database/operator", "database/licence", "authorities"] :
      "arn:aws:secretsmanager:${var.name}:${local.account}:secret:${var.deployment}/${s}-??????"] },
      # A backup is one object tree over all regions' buckets, and so is a restore.
      { Sid = "BackupList", Effect = "Allow", Action = ["s3:ListBucket"], Resource = [for bucket in values(var.backups) : "arn:aws:s3:::${bucket}"] },
      { Sid = "Backup", Effect = "Allow", Action = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], Resource = [for bucket in values(var.backups) : "arn:aws:s3:::${bucket}/*"] },
      # One key with one id in every region.
      { Sid = "Key", Effect = "Allow", Action = ["kms:Decrypt", "kms:GenerateDataKey"], Resource = [replace(var.key_arn, ":${var.name}:", ":*:")] },
      ], var.name != local.primary ? [] : [
      { Sid = "Initialise", Effect = "Allow", Action = ["ssm:PutParameter", "ssm:GetParameter"], Resource = ["arn:aws:ssm:${var.name}:${local.account}:parameter${local.claim}"] },
    ])
  })
}
