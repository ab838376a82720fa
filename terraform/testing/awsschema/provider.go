package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// address is the provider whose schema this program serves.
const address = "registry.terraform.io/hashicorp/aws"

// serve answers Terraform until Terraform ends it.
func serve(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var schema Schema
	if err := json.Unmarshal(raw, &schema); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	answer, err := schema.protocol()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return tf6server.Serve(address, func() tfprotov6.ProviderServer { return provider{schema: answer} })
}

// provider answers init, validate and mocked tests. Every other request follows ConfigureProvider, which refuses.
type provider struct {
	tfprotov6.ProviderServer // nil

	schema *tfprotov6.GetProviderSchemaResponse
}

func (p provider) GetMetadata(context.Context, *tfprotov6.GetMetadataRequest) (*tfprotov6.GetMetadataResponse, error) {
	return &tfprotov6.GetMetadataResponse{}, nil
}

func (p provider) GetProviderSchema(context.Context, *tfprotov6.GetProviderSchemaRequest) (*tfprotov6.GetProviderSchemaResponse, error) {
	return p.schema, nil
}

func (p provider) GetResourceIdentitySchemas(context.Context, *tfprotov6.GetResourceIdentitySchemasRequest) (*tfprotov6.GetResourceIdentitySchemasResponse, error) {
	return &tfprotov6.GetResourceIdentitySchemasResponse{}, nil
}

func (p provider) ValidateProviderConfig(_ context.Context, r *tfprotov6.ValidateProviderConfigRequest) (*tfprotov6.ValidateProviderConfigResponse, error) {
	return &tfprotov6.ValidateProviderConfigResponse{PreparedConfig: r.Config}, nil
}

func (p provider) ValidateResourceConfig(context.Context, *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	return &tfprotov6.ValidateResourceConfigResponse{}, nil
}

func (p provider) ValidateDataResourceConfig(context.Context, *tfprotov6.ValidateDataResourceConfigRequest) (*tfprotov6.ValidateDataResourceConfigResponse, error) {
	return &tfprotov6.ValidateDataResourceConfigResponse{}, nil
}

func (p provider) ConfigureProvider(context.Context, *tfprotov6.ConfigureProviderRequest) (*tfprotov6.ConfigureProviderResponse, error) {
	return &tfprotov6.ConfigureProviderResponse{Diagnostics: []*tfprotov6.Diagnostic{{
		Severity: tfprotov6.DiagnosticSeverityError,
		Summary:  "this provider knows the schema only",
		Detail:   "It stands in for hashicorp/aws in validate and in mocked tests and cannot reach AWS. Take the real one for plan and apply.",
	}}}, nil
}

func (p provider) StopProvider(context.Context, *tfprotov6.StopProviderRequest) (*tfprotov6.StopProviderResponse, error) {
	return &tfprotov6.StopProviderResponse{}, nil
}

func (s Schema) protocol() (*tfprotov6.GetProviderSchemaResponse, error) {
	own, err := s.Provider.protocol()
	if err != nil {
		return nil, fmt.Errorf("provider: %w", err)
	}
	answer := &tfprotov6.GetProviderSchemaResponse{
		Provider:          &tfprotov6.Schema{Block: own},
		ResourceSchemas:   make(map[string]*tfprotov6.Schema, len(s.Resources)),
		DataSourceSchemas: make(map[string]*tfprotov6.Schema, len(s.Data)),
	}
	for blocks, schemas := range map[*map[string]Block]map[string]*tfprotov6.Schema{&s.Resources: answer.ResourceSchemas, &s.Data: answer.DataSourceSchemas} {
		for name, block := range *blocks {
			converted, err := block.protocol()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			schemas[name] = &tfprotov6.Schema{Block: converted}
		}
	}
	return answer, nil
}

func (b Block) protocol() (*tfprotov6.SchemaBlock, error) {
	out := &tfprotov6.SchemaBlock{}
	for name, a := range b.Attributes {
		raw, err := json.Marshal(a.Type)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		typ, err := tftypes.ParseJSONType(raw) //nolint:staticcheck // the only parser of this spelling; deprecated for providers that would send it
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out.Attributes = append(out.Attributes, &tfprotov6.SchemaAttribute{
			Name: name, Type: typ, Optional: a.Optional, Required: a.Required, Computed: a.Computed, WriteOnly: a.WriteOnly,
		})
	}
	for name, n := range b.Blocks {
		block, err := n.Block.protocol()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out.BlockTypes = append(out.BlockTypes, &tfprotov6.SchemaNestedBlock{
			TypeName: name, Block: block, MinItems: n.Min, MaxItems: n.Max, Nesting: nestings[n.Nesting],
		})
	}
	return out, nil
}

var nestings = map[string]tfprotov6.SchemaNestedBlockNestingMode{
	"list":   tfprotov6.SchemaNestedBlockNestingModeList,
	"set":    tfprotov6.SchemaNestedBlockNestingModeSet,
	"single": tfprotov6.SchemaNestedBlockNestingModeSingle,
}
