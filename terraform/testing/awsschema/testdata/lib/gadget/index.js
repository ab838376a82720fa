"use strict";
function gadgetPartToTerraform(struct) {
    return {
        name: cdktn.stringToTerraform(struct.name),
    };
}
function gadgetPartToHclTerraform(struct) {
    const attrs = {
        name: {
            value: cdktn.stringToHclTerraform(struct.name),
            isBlock: false,
            type: "simple",
            storageClassType: "string",
        },
        weights: {
            value: cdktn.listMapperHcl(cdktn.numberToHclTerraform, false)(struct.weights),
            isBlock: false,
            type: "list",
            storageClassType: "numberList",
        },
    };
    return attrs;
}
class GadgetPartOutputReference extends cdktn.ComplexObject {
    // name - computed: false, optional: false, required: true
    _name;
    get name() {
        return this.getStringAttribute('name');
    }
    // weights - computed: false, optional: true, required: false
    _weights;
    get weights() {
        return this.getNumberListAttribute('weights');
    }
}
function gadgetShellToHclTerraform(struct) {
    const attrs = {
        thick: {
            value: cdktn.booleanToHclTerraform(struct.thick),
            isBlock: false,
            type: "simple",
            storageClassType: "boolean",
        },
    };
    return attrs;
}
class GadgetShellOutputReference extends cdktn.ComplexObject {
    // thick - computed: false, optional: true, required: false
    get thick() {
        return this.getBooleanAttribute('thick');
    }
}
function gadgetRuleToHclTerraform(struct) {
    const attrs = {
        port: {
            value: cdktn.numberToHclTerraform(struct.port),
            isBlock: false,
            type: "simple",
            storageClassType: "number",
        },
    };
    return attrs;
}
class GadgetRuleOutputReference extends cdktn.ComplexObject {
    // port - computed: false, optional: true, required: false
    get port() {
        return this.getNumberAttribute('port');
    }
}
function gadgetTimeoutsToHclTerraform(struct) {
    const attrs = {
        create: {
            value: cdktn.stringToHclTerraform(struct.create),
            isBlock: false,
            type: "simple",
            storageClassType: "string",
        },
    };
    return attrs;
}
class GadgetTimeoutsOutputReference extends cdktn.ComplexObject {
    // create - computed: false, optional: true, required: false
    get create() {
        return this.getStringAttribute('create');
    }
}
class GadgetProofOutputReference extends cdktn.ComplexObject {
    // record - computed: true, optional: false, required: false
    get record() {
        return this.getStringAttribute('record');
    }
}
class Gadget extends cdktn.TerraformResource {
    static tfResourceType = "aws_gadget";
    // arn - computed: true, optional: false, required: false
    get arn() {
        return this.getStringAttribute('arn');
    }
    // proofs - computed: true, optional: false, required: false
    _proofs = new GadgetProofList(this, "proofs", true);
    get proofs() {
        return this._proofs;
    }
    // secret_wo - computed: false, optional: true, required: false
    get secretWo() {
        return this.getStringAttribute('secret_wo');
    }
    // tags - computed: true, optional: true, required: false
    get tags() {
        return this.getStringMapAttribute('tags');
    }
    // rule - computed: true, optional: true, required: false
    _rule = new GadgetRuleList(this, "rule", true);
    // shell - computed: false, optional: true, required: false
    _shell = new GadgetShellOutputReference(this, "shell");
    // part - computed: false, optional: false, required: true
    _part = new GadgetPartList(this, "part", true);
    // timeouts - computed: false, optional: true, required: false
    _timeouts = new GadgetTimeoutsOutputReference(this, "timeouts");
    synthesizeHclAttributes() {
        const attrs = {
            secret_wo: {
                value: this.markWriteOnlyAttribute(cdktn.stringToHclTerraform(this._secretWo)),
                isBlock: false,
                type: "simple",
                storageClassType: "string",
            },
            tags: {
                value: cdktn.hashMapperHcl(cdktn.stringToHclTerraform)(this._tags),
                isBlock: false,
                type: "map",
                storageClassType: "stringMap",
            },
            rule: {
                value: cdktn.listMapperHcl(gadgetRuleToHclTerraform, false)(this._rule.internalValue),
                isBlock: true,
                type: "set",
                storageClassType: "GadgetRuleList",
            },
            shell: {
                value: gadgetShellToHclTerraform(this._shell.internalValue),
                isBlock: true,
                type: "list",
                storageClassType: "GadgetShellList",
            },
            part: {
                value: cdktn.listMapperHcl(gadgetPartToHclTerraform, true)(this._part.internalValue),
                isBlock: true,
                type: "set",
                storageClassType: "GadgetPartList",
            },
            timeouts: {
                value: gadgetTimeoutsToHclTerraform(this._timeouts.internalValue),
                isBlock: true,
                type: "struct",
                storageClassType: "GadgetTimeouts",
            },
        };
        return attrs;
    }
}
