class Thing extends cdktn.TerraformThing {
    static tfResourceType = "aws";
    // region - computed: false, optional: true, required: false
    get region() {
        return this.getStringAttribute('region');
    }
    synthesizeHclAttributes() {
        const attrs = {
            region: {
                value: cdktn.stringToHclTerraform(this._region),
                isBlock: false,
                type: "simple",
                storageClassType: "string",
            },
        };
        return attrs;
    }
}
